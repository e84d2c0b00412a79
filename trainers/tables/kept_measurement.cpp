#include "trainers/tables/kept_measurement.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char *kCheckpointKey = "checkpoint", *kWeightsKey = "checkpoint_weights";

bool has_weights_of(const Json& made, const std::string& checkpoint) {
  const auto hash = stored_model_hash(checkpoint);
  return hash && made.at(kWeightsKey) == *hash;
}

// Run directories may have moved since: the folder's name says the step.
bool earlier_file_fits(const Json& made, const std::string& file, const std::string& newest) {
  if (const Json named = made.value(kCheckpointKey, Json()); named.is_string())
    return fs::path(named.get<std::string>()).filename() == fs::path(newest).filename();
  return fs::last_write_time(file) >= fs::last_write_time(file_in(newest, "COMPLETE"));
}

}  // namespace

void name_checkpoint(Json& made, const std::string& checkpoint) {
  made[kCheckpointKey] = checkpoint;
  made[kWeightsKey] = stored_model_hash(checkpoint).value_or("");
}

bool is_of_newest_checkpoint(const Json& made, const std::string& file,
                             const std::string& run_directory) {
  if (!is_run_directory(run_directory)) return true;
  const auto checkpoints = checkpoints_of(run_directory);
  if (checkpoints.empty()) return true;
  const std::string& newest = checkpoints.back();
  if (!made.contains(kWeightsKey)) return earlier_file_fits(made, file, newest);
  if (has_weights_of(made, newest)) return true;
  // load_run() passes over a damaged one.
  const auto whole = latest_checkpoint(run_directory);
  return whole && *whole != newest && has_weights_of(made, *whole);
}

Json kept_measurement(const std::string& file, const Json& wanted,
                      const std::string& run_directory) {
  if (!fs::exists(file)) return nullptr;
  Json made = read_stored_json(file).json();
  if (made.value("of", Json()) != wanted) return nullptr;
  return is_of_newest_checkpoint(made, file, run_directory) ? made : Json();
}

}  // namespace reverie
