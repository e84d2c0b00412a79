#include "trainers/runs/run_reference.h"

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

std::string folder_of_step(const std::string& run, int64_t step) {
  const std::string wanted = fmt::format("step_{:08}", step);
  std::string known;
  for (const std::string& folder : checkpoints_of(run)) {
    const std::string name = fs::path(folder).filename().string();
    if (name == wanted) return folder;
    int64_t number = 0;
    if (name.starts_with("step_") && name.find('.') == name.npos &&
        std::from_chars(name.data() + 5, name.data() + name.size(), number).ec == std::errc())
      known += (known.empty() ? "" : ", ") + std::to_string(number);
  }
  throw UserError(fmt::format("{} has no complete checkpoint of step {}; it has: {}", run, step,
                              known.empty() ? "none" : known));
}

// The newest checkpoint says which was the best so far.
std::string folder_of_best(const std::string& run) {
  const auto newest = read_latest_checkpoint(run);
  if (!newest) throw UserError(fmt::format("{} has no complete checkpoint yet", run));
  const Json& state = newest->contents.state;
  if (!state.contains("best"))
    throw UserError(
        fmt::format("{} kept no best checkpoint: set checkpoint.keep_best (also when resuming "
                    "the run), or name a checkpoint by its step, as {}@1000",
                    run, run));
  return folder_of_step(run, state.at("best").at("step"));
}

}  // namespace

std::optional<RunReference> find_run(const std::string& given) {
  if (is_run_directory(given)) return RunReference{given, ""};
  fs::path folder = fs::path(given).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();
  std::error_code ignored;
  if (fs::is_regular_file(folder / "state.json", ignored)) {
    const fs::path run = fs::absolute(folder).parent_path().parent_path();
    if (is_run_directory(run.string())) return RunReference{run.string(), folder.string()};
  }
  const size_t at = given.rfind('@');
  if (at == std::string::npos || !is_run_directory(given.substr(0, at))) return {};
  const std::string run = given.substr(0, at), name = given.substr(at + 1);
  if (name == "last") return RunReference{run, ""};
  if (name == "best") return RunReference{run, folder_of_best(run)};
  int64_t step = 0;
  const auto read = std::from_chars(name.data(), name.data() + name.size(), step);
  if (read.ec != std::errc() || read.ptr != name.data() + name.size())
    throw UserError(fmt::format("{}: wanted a step, \"best\" or \"last\" behind the @, got \"{}\"",
                                given, name));
  return RunReference{run, folder_of_step(run, step)};
}

}  // namespace reverie
