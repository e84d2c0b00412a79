#include "trainers/runs/output_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return fs::weakly_canonical(fs::absolute(a, error), error) ==
         fs::weakly_canonical(fs::absolute(b, error), error);
}

// A file that a run or one of its checkpoints is made of.
bool belongs_to_run(const fs::path& file) {
  std::error_code ignored;
  const fs::path whole = fs::weakly_canonical(fs::absolute(file, ignored), ignored),
                 folder = whole.parent_path();
  if (fs::exists(folder / "COMPLETE", ignored)) return fs::exists(whole, ignored);
  if (!fs::exists(folder / kConfigFile, ignored)) return false;
  const std::vector<std::string> own{kConfigFile,  kSummaryFile,    kLockFile,
                                     kLeakFile,    "metrics.jsonl", "dataset.json",
                                     "audit.json", "config.json",   "reverie_tokenizer.json"};
  return std::find(own.begin(), own.end(), whole.filename().string()) != own.end();
}

}  // namespace

void require_outputs(const std::vector<GivenPath>& outputs, const std::vector<GivenPath>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [option, path] = outputs[i];
    std::error_code ignored;
    // A device or a pipe replaces nothing.
    if (path.empty() || (fs::exists(path, ignored) && fs::is_other(path, ignored))) continue;
    for (const GivenPath& input : inputs)
      if (!input.path.empty() && same_file(path, input.path))
        throw UserError(fmt::format("{} would replace {}, which is {}: name another file", option,
                                    path, input.option));
    for (size_t j = 0; j < i; ++j)
      if (!outputs[j].path.empty() && same_file(path, outputs[j].path))
        throw UserError(fmt::format("{} and {} are the same file, {}: name two", outputs[j].option,
                                    option, path));
    if (belongs_to_run(path))
      throw UserError(fmt::format("{} would replace {}, a file that a run is made of: name another",
                                  option, path));
    require_writable(path);
  }
}

}  // namespace reverie
