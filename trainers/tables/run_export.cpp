#include "trainers/tables/run_export.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/tables/kept_measurement.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOrigin = "exported_from.json";

}  // namespace

std::string export_of(const std::string& run_directory) {
  return run_directory + "/hugging_face";
}

bool export_is_due(const std::string& run_directory) {
  const std::string place = export_of(run_directory), config = file_in(place, "config.json"),
                    origin = file_in(place, kOrigin);
  if (checkpoints_of(run_directory).empty()) return false;
  if (!fs::exists(config)) return true;
  // Exports of earlier versions do not say from where.
  const Json made = fs::exists(origin) ? read_stored_json(origin).json() : Json::object();
  return !is_of_newest_checkpoint(made, config, run_directory);
}

void export_run(const LoadedRun& run, const std::string& run_directory) {
  const std::string place = export_of(run_directory), making = place + ".making";
  export_hugging_face(*run.model, run.options.model, run.tokenizer.get(), making, &run.verdict);
  Json origin = Json::object();
  name_checkpoint(origin, run.checkpoint);
  write_file_atomically(file_in(making, kOrigin), json_text(origin, 2) + "\n");
  fs::remove_all(place);
  rename_durably(making, place);
}

}  // namespace reverie
