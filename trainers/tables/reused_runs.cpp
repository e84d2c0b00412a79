#include "trainers/tables/reused_runs.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "layers/frozen_base.h"
#include "layers/model_options.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const PlannedRun& run, const std::string& what) {
  throw DataError(fmt::format(
      "{} does not hold the finished run that the table plans there: {}. It was trained "
      "on or replaced. Remove the directory, so that the run is trained anew, or give "
      "another --run-dir",
      run.directory, what));
}

// Its plugins may lie elsewhere now; planning has loaded the table's.
ExperimentOptions config_of_run(const PlannedRun& run, Json config) {
  if (config.is_object()) config.erase("plugins");
  return read_experiment(Config(std::move(config), "$", file_in(run.directory, kConfigFile)),
                         run.directory);
}

// As the trainer resolves it, which takes the vocabulary from the data and hashes a decoder's base.
Json as_resolved(ExperimentOptions planned, const ExperimentOptions& stored,
                 const Json& stored_json) {
  const auto tokens = configured_vocabulary(stored.model);
  if (tokens) planned.model = with_vocabulary_of_data(planned.model, *tokens);
  Json config = write_config(planned);
  Json& model = config["model"];
  if (model.value("base_hash", Json()) == "")
    model["base_hash"] = stored_json.at("model").value("base_hash", Json(""));
  return config;
}

void require_config(const PlannedRun& run, const Json& got, const Json& wanted) {
  const auto differences =
      config_differences(config_behind_figures(got), config_behind_figures(wanted));
  if (differences.empty()) return;
  const size_t more = differences.size() - 1;
  refuse(run, fmt::format("in {} (got -> wanted), {}{}", kConfigFile, differences[0],
                          more > 0 ? fmt::format(" ({} more differ)", more) : ""));
}

// Summaries of earlier versions lack some of the keys.
void require_summary(const PlannedRun& run, const Json& config, const ExperimentOptions& planned) {
  const Json summary = read_stored_json(file_in(run.directory, kSummaryFile)).json();
  const auto require_value = [&](const std::string& pointer, const Json& wanted) {
    const Json got = summary.value(Json::json_pointer("/" + pointer), Json());
    if (got.is_null() || got == wanted) return;
    refuse(run, fmt::format("in {}, {} is {}, wanted {}", kSummaryFile, pointer, json_text(got),
                            json_text(wanted)));
  };
  require_value("seed", planned.seed);
  require_value("steps", planned.train.steps);
  require_value(kConfigHashKey, config_hash(config));
  if (run.data_hash) require_value("dataset/hash", *run.data_hash);
}

}  // namespace

void ReusedRuns::require_planned(const PlannedRun& run) {
  if (!is_run_directory(run.directory))
    refuse(run, fmt::format("there is a {}, but no {}", kSummaryFile, kConfigFile));
  const Json config = read_stored_json(file_in(run.directory, kConfigFile)).json();
  ExperimentOptions stored = config_of_run(run, config);
  const ExperimentOptions planned = read_experiment(run.config, directory_);
  const Json got = write_config(stored);
  require_config(run, got, as_resolved(planned, stored, got));
  require_summary(run, config, planned);
  if (const auto base = configured_base(planned.model)) require_base(run, stored, *base);
}

void ReusedRuns::require_planned(const std::vector<PlannedRun>& runs) {
  for (const PlannedRun& run : runs)
    if (run_finished(run.directory)) require_planned(run);
}

void ReusedRuns::require_base(const PlannedRun& run, ExperimentOptions stored,
                              const std::string& base) {
  Json record = newest_base_record(run.directory);
  if (record.is_null()) record = initial_base_record(run.directory);
  std::error_code ignored;
  if (record.is_null() || (!fs::exists(base, ignored) && !find_run(base))) return;
  const std::tuple known(base, fs::last_write_time(base, ignored),
                         record.at("weights_hash").get<std::string>());
  if (known_bases_.contains(known)) return;
  stored.model = with_base(stored.model, base);
  const auto model = make_run_model(stored);
  const FrozenBase* frozen = frozen_base_of(*model);
  const auto trained = trained_base(*model, stored.model);
  if (frozen || trained)
    require_recorded(frozen ? *frozen : *trained, record, run.directory,
                     ", or give another --run-dir, so that all runs are trained beside this one");
  known_bases_.insert(known);
}

}  // namespace reverie
