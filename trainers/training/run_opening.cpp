#include "trainers/training/run_opening.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "datasets/tokenizers/tokenizer.h"
#include "trainers/runs/resumption.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

// The config of the run that is there, as this version writes it.
Json config_before(const RunDirectory& directory) {
  return in_todays_form(read_stored_json(directory.file(kConfigFile)).json(), directory.path());
}

void require_same_config(const RunDirectory& directory, const Json& before, const Json& now,
                         bool resume) {
  if (const auto differences = obstacles_to_resuming(before, now); !differences.empty()) {
    std::string list;
    for (const auto& d : differences) list += "\n  " + d;
    throw ConfigError(fmt::format(
        "{} holds a run of another config; use another --run-dir, or undo these changes (a resumed "
        "run may get longer, and change its evaluation, sample and checkpoint):{}",
        directory.path(), list));
  }
  if (!resume)
    throw ConfigError(
        fmt::format("{} holds a run of this config already: add --resume to continue it, or "
                    "choose another --run-dir",
                    directory.path()));
}

// The step before the old end: a schedule that looks at the run's length has another rate there.
void tell_of_longer_schedule(int64_t before, int64_t now, const Optimizer& optimizer) {
  if (now <= before ||
      optimizer.learning_rate(before - 1, before) == optimizer.learning_rate(before - 1, now))
    return;
  log_info(
      "the schedule ended at step {} and now ends at {}: from here on the learning rate is that "
      "of a run of {} steps",
      before, now, now);
}

// Files that a run writes; a directory of such a name would be found in the way after hours.
void require_room(const RunDirectory& directory) {
  for (const char* name : {kConfigFile, kSummaryFile, "metrics.jsonl", "dataset.json"}) {
    std::error_code ignored;
    if (std::filesystem::is_directory(directory.file(name), ignored))
      throw UserError(
          fmt::format("{} is a directory, and the run writes a file of that name: move it away, or "
                      "give another --run-dir",
                      directory.file(name)));
  }
}

// Nobody's files are replaced by a run's. A run writes its config before any of these.
void require_nothing_else(const RunDirectory& directory) {
  if (is_run_directory(directory.path())) return;
  for (const std::string name : {kSummaryFile, "metrics.jsonl", "dataset.json", "audit.json",
                                 "report.html", kTokenizerFile.data()})
    if (std::filesystem::is_regular_file(directory.file(name)))
      throw UserError(fmt::format(
          "{} holds {} and is no run directory ({} is not there): a run would write over it. Move "
          "it away, or give another --run-dir",
          directory.path(), name, kConfigFile));
}

}  // namespace

void require_free(RunDirectory& directory, const Json& resolved_config, bool resume) {
  directory.lock_on_trial();
  require_room(directory);
  require_nothing_else(directory);
  if (is_run_directory(directory.path()))
    require_same_config(directory, config_before(directory), resolved_config, resume);
}

OpenedRun open_run(RunDirectory& directory, const ExperimentOptions& options,
                   const Json& resolved_config, const Optimizer& optimizer, bool resume,
                   bool may_begin_anew) {
  directory.lock();
  directory.keep();
  require_room(directory);
  OpenedRun run;
  const bool holds_run = is_run_directory(directory.path());
  if (holds_run) {
    const Json before = config_before(directory);
    require_same_config(directory, before, resolved_config, resume);
    run.config_changes = config_differences(before, resolved_config);
    for (const auto& change : run.config_changes) log_info("resuming with {}", change);
    tell_of_longer_schedule(before.at("train").at("steps"), options.train.steps, optimizer);
  }
  if (!resume) return run;
  {
    const Activity activity("reading the newest checkpoint of " + directory.path());
    run.newest = read_latest_checkpoint(directory.path());
  }
  if (run.newest) return run;
  if (!may_begin_anew)
    log_warning("--resume: {} holds no checkpoint{}: the run begins anew, at step 0",
                directory.path(), holds_run ? " yet" : ", nor any run");
  if (const auto damaged = checkpoints_of(directory.path()); !damaged.empty())
    throw DataError(
        fmt::format("none of the {} checkpoints of {} is complete (the warnings above say why); "
                    "to start again, move the run directory away",
                    damaged.size(), directory.path()));
  return run;
}

void describe_run(const RunDirectory& directory, const ExperimentOptions& options,
                  const Json& resolved_config, const Dataset& data, int64_t step) {
  if (run_finished(directory.path()) && step < options.train.steps)  // it gets longer
    rename_durably(directory.file(kSummaryFile),
                   directory.file(fmt::format("summary.step_{:08}.json", step)));
  const Json before = is_run_directory(directory.path())
                          ? read_stored_json(directory.file(kConfigFile)).json()
                          : Json::object();
  directory.write(kConfigFile, resolved_config);
  keep_config_hash(directory, before, resolved_config);
  directory.write("dataset.json", data.provenance);
  if (data.tokenizer) data.tokenizer->save(directory.path());
}

}  // namespace reverie
