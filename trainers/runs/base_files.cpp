#include "trainers/runs/base_files.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "layers/frozen_base.h"
#include "layers/model_options.h"
#include "layers/pretrained/load.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnfinishedCopy = ".frozen_base.tmp-";

// The only entry of the copy's folder; "" where there is no copy.
std::string own_copy(const std::string& run_directory) {
  if (!is_run_directory(run_directory)) return "";
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(file_in(run_directory, kBaseFolder), ignored))
    return entry.path().string();
  return "";
}

bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) || find_run(path).has_value();
}

void copy_durably(const fs::path& from, const fs::path& to) {
  fs::copy_file(from, to);
  fsync_path(to.string());
}

void copy_published(const std::string& base, const fs::path& folder) {
  if (!fs::is_directory(base))
    return copy_durably(base, folder / ("model" + fs::path(base).extension().string()));
  fs::create_directory(folder / "model");
  for (const std::string& file : pretrained_files(base))
    copy_durably(file, folder / "model" / fs::path(file).filename());
  fsync_path((folder / "model").string());
}

// Config, verdict, tokenizer and the checkpoint; and, in turn, the base that this run may have.
void copy_run(const std::string& base, const fs::path& folder) {
  LoadedRun run = load_run(base);
  const std::string from = find_run(base)->directory;
  const fs::path to = folder / "run", checkpoint = fs::path(run.checkpoint).filename();
  fs::create_directories(to / "checkpoints" / checkpoint);
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool wanted = name == kConfigFile || name == kSummaryFile || name == kLeakFile ||
                        name == "dataset.json" || name.find("tokenizer") != name.npos;
    if (wanted && entry.is_regular_file()) copy_durably(entry.path(), to / name);
  }
  for (const auto& entry : fs::directory_iterator(run.checkpoint))
    copy_durably(entry.path(), to / "checkpoints" / checkpoint / entry.path().filename());
  copy_base(*run.model, to.string());
  for (const fs::path& made : {to / "checkpoints" / checkpoint, to / "checkpoints", to})
    fsync_path(made.string());
}

}  // namespace

Component with_base_found(const Component& model, const std::string& run_directory) {
  const auto base = configured_base(model);
  if (!base) return model;
  if (const std::string copy = own_copy(run_directory); !copy.empty())
    return with_base(model, copy);
  if (is_there(*base)) return model;
  const Json record = newest_base_record(run_directory);
  if (record.is_null()) return model;  // whoever opens it says what is missing
  throw DataError(fmt::format(
      "{}: its frozen base {} is not there, and its checkpoints hold only what was trained beside "
      "it: "
      "wanted a model whose weights have the hash {}. Put it back, or say where it lies now: "
      "reverie "
      "inspect {} --base PATH (in train --resume: --set model.base=PATH, or model.path=PATH for a "
      "\"pretrained\" model). A run with "
      "checkpoint.self_contained keeps a copy",
      run_directory, *base, record.at("weights_hash").get<std::string>(), run_directory));
}

void copy_base(LanguageModel& model, const std::string& run_directory) {
  const FrozenBase* base = frozen_base_of(model);
  if (!base || !base->in_files || !own_copy(run_directory).empty()) return;
  const Activity activity("copying the frozen base");
  const fs::path run = run_directory, making = run / (kUnfinishedCopy + std::to_string(::getpid()));
  try {
    for (const auto& entry : fs::directory_iterator(run))
      if (entry.path().filename().string().starts_with(kUnfinishedCopy))
        fs::remove_all(entry.path());
    fs::create_directory(making);
    find_run(base->path) ? copy_run(base->path, making) : copy_published(base->path, making);
    fs::remove(run / kBaseFolder);  // an empty one
    rename_durably(making.string(), (run / kBaseFolder).string());
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove_all(making, ignored);
    throw MachineError(fmt::format(
        "cannot copy the base {} into {} (checkpoint.self_contained): {}; make room, or set "
        "checkpoint.self_contained to false",
        base->path, run_directory, error.code().message()));
  }
}

void move_base(const std::string& run_directory, const std::string& path) {
  RunDirectory directory(run_directory);
  directory.lock();
  const std::string place = fs::absolute(path).lexically_normal().string();
  require(is_there(place), "{} is not there: wanted the frozen base of {}", place, run_directory);
  ExperimentOptions options = read_run_config(run_directory);
  const auto before = configured_base(options.model);
  require(before.has_value(), "the model of {} has no base (it is a \"{}\" model)", run_directory,
          options.model.type);
  options.model = with_base(options.model, place);
  const auto newest = read_latest_checkpoint(run_directory);
  if (newest) load_weights(*make_run_model(options), *newest);
  const Json stored = read_stored_json(directory.file(kConfigFile)).json(),
             moved = write_config(options);
  directory.write(kConfigFile, moved);
  keep_config_hash(directory, stored, moved);
  log_info("{}: its base lies at {} (before: {})", run_directory, place, *before);
}

}  // namespace reverie
