#include "trainers/tables/trial_runs.h"

#include <filesystem>

#include "trainers/runs/run_directory.h"

namespace reverie {

bool measured_as_trial(const std::string& run_directory) {
  const auto file = std::filesystem::path(run_directory) / kLatentEffectFile;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return false;
  const Json of = read_stored_json(file.string()).json().value("of", Json::object());
  return of.is_object() && of.value("texts", Json()) == kTextsOfTrials;
}

}  // namespace reverie
