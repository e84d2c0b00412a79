#include "trainers/tables/repro.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/signals.h"
#include "layers/model_options.h"
#include "trainers/checks/summary_check.h"
#include "trainers/monitoring/run_callbacks.h"
#include "trainers/reports/markdown.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/earlier_spellings.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/reused_runs.h"
#include "trainers/tables/run_planner.h"
#include "trainers/tables/runs/run_report.h"
#include "trainers/tables/shrunk_table.h"
#include "trainers/tables/table_clock.h"
#include "trainers/tables/table_ranks.h"
#include "trainers/text/terminal.h"
#include "trainers/training/run_preparation.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

constexpr const char* kDivergedFile = "diverged.txt";

std::string place_of(const PlannedCell& cell) {
  if (!cell.level_name.empty()) return cell.model + "/" + cell.level_name;
  return cell.level > 0 ? fmt::format("{}/{}", cell.model, cell.level) : cell.model;
}

// What is wrong with the runs of a table, so that all of it is said in one go.
class Problems {
 public:
  void add(const std::string& place, const std::string& what) {
    const auto known = std::find_if(problems_.begin(), problems_.end(),
                                    [&](const Problem& problem) { return problem.what == what; });
    if (known == problems_.end())
      problems_.push_back({what, {place}});
    else
      known->places.push_back(place);
  }
  bool empty() const { return problems_.empty(); }
  // A line each. `all`: so many places in all; what is wrong with every one names none.
  std::string text(size_t all) const {
    if (problems_.size() == 1 && problems_[0].places.size() == all) return problems_[0].what;
    std::string out;
    for (const Problem& problem : problems_)
      out += fmt::format("{}{}: {}", out.empty() ? "" : "\n", fmt::join(problem.places, "; "),
                         problem.what);
    return out;
  }

 private:
  struct Problem {
    std::string what;
    std::vector<std::string> places;
  };
  std::vector<Problem> problems_;
};

// Whether a cell is trained with this seed of the preset's.
bool is_seed_of(const TableFile& t, const PlannedCell& cell, int64_t seed) {
  const TablePreset& preset = t.preset();
  const auto among = [&](const std::vector<int64_t>* own, const std::string& name) {
    if (own == nullptr) return true;
    for (const int64_t s : *own)
      if (std::find(preset.seeds.begin(), preset.seeds.end(), s) == preset.seeds.end())
        throw ConfigError(fmt::format("{}: seeds of {}: {} is none of the preset's seeds",
                                      t.preset_path(), name, s));
    return std::find(own->begin(), own->end(), seed) != own->end();
  };
  const std::string level = std::to_string(cell.level);
  return among(preset.model_seeds.find(cell.model), cell.model) &&
         among(preset.level_seeds.find(level), level);
}

// The config of a cell: the base, then patches; `trial` is null for none.
Config config_of(const TableFile& t, const TableKind& kind, const PlannedCell& cell,
                 const Json& trial) {
  const TableDefinition& table = t.table();
  const TablePreset& preset = t.preset();
  Config config(table.base, "$");
  kind.merge_level_patch(cell, config);
  if (kind.has_models()) merge_patch(config, table.models.at(cell.model, "$.models"));
  merge_patch(config, preset.patch);
  if (const Json* own = preset.model_patches.find(cell.model)) merge_patch(config, *own);
  kind.set_cell_values(cell, config);
  merge_patch(config, trial);
  return config;
}

// ConfigError where an override would replace a value of the data that a model has for itself.
void require_own_data_kept(const TableFile& t, const ReproOptions& o, const std::string& model,
                           const Json& patch, const std::string& path) {
  if (!patch.contains("data")) return;
  const Json& data = patch["data"];
  for (const std::string& s : o.overrides) {
    const std::string key = s.substr(0, s.find('='));
    if (key == "data" || (key.starts_with("data.") && data.contains(key.substr(5))))
      throw ConfigError(fmt::format(
          "--set {}: {} is trained on data of its own ({}), which this would replace; to change "
          "the table's data alone, give --set-table presets.{}.patch.{}",
          s, model, path + ".data", t.preset_name, s));
  }
}

std::vector<PlannedRun> plan(const TableFile& t, const ReproOptions& o, TableKind& kind) {
  const TablePreset& preset = t.preset();
  for (const auto& [model, own] : preset.model_seeds) t.table().models.at(model, "$.models");

  Config common(t.table().base, "$");
  merge_patch(common, preset.patch);
  RunPlanner planner(t, o, std::move(common));
  std::vector<PlannedRun> runs;
  if (const auto preliminary = kind.preliminary()) {
    Config config(t.table().base, "$");
    merge_patch(config, preset.patch);
    merge_patch(config, *preliminary);
    runs.push_back(planner.run({"base", 0}, preset.seeds[0], std::move(config)));
    runs[0].in_table = false;
    kind.set_preliminary(runs[0]);
  }
  const auto cells = kind.cells();
  for (const PlannedCell& cell : cells) {
    if (kind.has_models())
      require_own_data_kept(t, o, cell.model, t.table().models.at(cell.model, "$.models"),
                            "$.models." + cell.model);
    if (const Json* own = preset.model_patches.find(cell.model))
      require_own_data_kept(t, o, cell.model, *own,
                            t.preset_path() + ".model_patches." + cell.model);
  }
  for (const auto& name : o.only)
    if (std::none_of(cells.begin(), cells.end(), [&](const auto& c) { return c.model == name; }))
      throw ConfigError(fmt::format("--only {}: preset {} has no such model", name, o.preset));
  const size_t before_trials = runs.size();
  kind.set_trials({});
  for (const PlannedTrial& trial : kind.trials()) {
    runs.push_back(
        planner.run(trial.cell, preset.seeds[0], config_of(t, kind, trial.cell, trial.patch)));
    runs.back().in_table = false;
    runs.back().trial = true;
  }
  kind.set_trials({runs.begin() + int64_t(before_trials), runs.end()});
  for (const int64_t seed : preset.seeds) {
    Problems problems;
    size_t count = 0;
    for (const PlannedCell& cell : cells) {
      if (!is_seed_of(t, cell, seed)) continue;
      ++count;
      try {
        Config config = config_of(t, kind, cell, nullptr);
        std::vector<PlannedRun> earlier;
        for (const PlannedRun& r : runs)
          if (r.in_table && r.seed == seed) earlier.push_back(r);
        try {
          kind.set_earlier_paths(cell, earlier, config);
        } catch (const ConfigError&) {
          if (problems.empty()) throw;
          continue;  // it may begin with one of those that are wrong
        }
        const PlannedRun run = planner.run(cell, seed, std::move(config));
        kind.check(run);
        runs.push_back(run);
      } catch (const ConfigError& e) {
        problems.add(place_of(cell), e.what());
      }
    }
    if (!problems.empty()) throw ConfigError(problems.text(count));
  }
  return runs;
}

// The runs under the directories that they will have: what they read is prepared first.
std::vector<PlannedRun> plan_with_data(const TableFile& t, const ReproOptions& o, TableKind& kind) {
  for (;;) {
    auto runs = plan(t, o, kind);
    bool prepared = false;
    for (const PlannedRun& r : runs) {
      if (r.data_prepared) continue;
      prepare_dataset(describe_dataset(read_experiment(r.config, t.directory).data));
      prepared = true;
    }
    if (!prepared) return runs;
  }
}

// UserError where the model begins with, or stands beside, a finished run of the table that was kept
// without its weights.
void require_kept_weights(const Component& model) {
  const auto base = configured_base(model);
  if (!base || std::filesystem::exists(*base)) return;
  const std::string run = std::filesystem::path(*base).parent_path().string();
  if (!run_finished(run) || !checkpoints_of(run).empty()) return;
  throw UserError(fmt::format(
      "wants the weights of {}, which was kept without them; remove that directory, so that it is "
      "trained again, or put its checkpoints back",
      run));
}

// Errors that only data and files show, of all `wanted` runs before the first: a vocabulary or a
// block that does not fit, a base without weights.
void require_fitting(const TableFile& t, const std::vector<PlannedRun>& runs,
                     const std::function<bool(const PlannedRun&)>& wanted) {
  Problems problems;
  for (const PlannedRun& r : runs) {
    if (run_finished(r.directory)) continue;
    ExperimentOptions options = read_experiment(r.config, t.directory);
    // The run itself compares checksums. The entries of a mix say themselves whether they do.
    if (options.data.mix.empty()) options.data.verify = false;
    try {
      if (wanted(r)) require_kept_weights(options.model);
      settle_vocabulary(options, open_dataset(describe_dataset(options.data)));
    } catch (const UserError& e) {
      problems.add(fmt::format("{} seed {}", place_of(r.cell), r.seed), e.what());
    }
  }
  if (!problems.empty()) throw UserError(problems.text(0));
}

// The table of what is finished. Returns the files written.
std::vector<std::string> write_table(const TableKind& kind, const std::vector<PlannedRun>& runs) {
  std::vector<PlannedRun> finished;
  int64_t planned = 0;
  for (const PlannedRun& r : runs) {
    planned += r.in_table;
    if (r.in_table && run_finished(r.directory)) finished.push_back(r);
  }
  if (finished.empty() && !kind.writes_without_runs()) return {};
  return kind.write(finished, planned);
}

// The part of a table's runs that `train_missing` trains.
struct TablePart {
  std::function<bool(const PlannedRun&)> includes;  // the others are counted and timed alone
  std::function<bool(const PlannedRun&)> wanted;    // false: used if finished, never trained
};

// While trials run, the cells' configs are not final; their steps are, and those the clock needs.
TableClock clock_of(const std::vector<PlannedRun>& runs, const TableFile& t, const ReproOptions& o,
                    const TablePart& part) {
  std::vector<TableClock::Run> list;
  for (const PlannedRun& r : runs)
    list.push_back(
        {place_of(r.cell), read_experiment(r.config, t.directory).train.steps,
         !o.report_only && part.wanted(r) && (part.includes(r) || !run_finished(r.directory))});
  return TableClock(std::move(list));
}

// A leak that a finished run's config does not allow, whoever found it.
bool leaks_unallowed(const PlannedRun& run) {
  return Verdict::of_file(read_summary(run.directory)).leaks() &&
         !run.config.json().value("allow_future_leak", false);
}

[[noreturn]] void refuse_empty_report(const std::vector<PlannedRun>& runs, const ReproOptions& o) {
  const auto planned = std::count_if(runs.begin(), runs.end(), [](auto& r) { return r.in_table; });
  const std::string missing =
      planned == 0 ? "nothing of this table has been measured yet"
                   : fmt::format("none of the {} planned runs is finished and measured", planned);
  throw UserError(fmt::format(
      "--report-only: {}; looked for in {}/runs, where a run of another config (--preset, --set) "
      "or text has another directory. Leave out --report-only to train and measure what is missing",
      missing, o.directory));
}

}  // namespace

TableFile read_table_file(const ReproOptions& o) {
  TableFile t;
  Config config =
      o.table ? Config(*o.table, "$", o.table_file) : Config::from_file(o.table_file, o.lenient);
  for (const auto& s : o.table_overrides) config.set(s);
  if (o.shrink > 1) {
    config = shrunk_table(config, o.preset, shrinking_of_runs(kind_of_table(config), o));
    if (!o.without_data) write_shrunk_base(config, o.preset);
  }
  t.definition = read_table_definition(config);
  t.file = o.table_file;
  t.preset_name = o.preset;
  t.command = o.command;
  t.output_directory = o.directory;
  const auto parent = std::filesystem::path(o.table_file).parent_path();
  if (!o.config_directory.empty())
    t.directory = o.config_directory;
  else
    t.directory = parent.empty() ? "." : parent.string();
  Config common(t.table().base, "$");
  merge_patch(common, t.preset().patch);
  for (const auto& s : o.overrides) common.set(s);
  if (common.has("device")) {
    const Json& device = common.json().at("device");
    t.device = device.is_string() ? device.get<std::string>() : json_text(device);
  }
  return t;
}

std::vector<PlannedRun> plan_table(const ReproOptions& o) {
  const TableFile t = read_table_file(o);
  return plan(t, o, *make_table_kind(t));
}

std::string plan_table_text(const ReproOptions& given, const std::optional<CostOptions>& costs) {
  const AbsentDevicesAllowed planning;
  ReproOptions o = given;
  o.without_data = true;
  const TableFile t = read_table_file(o);
  const auto kind = make_table_kind(t);
  const auto runs = plan(t, o, *kind);
  const std::string text =
      (o.shrink > 1
           ? fmt::format("shrunk by {}: these are no sizes of the table itself\n", o.shrink)
           : "") +
      kind->plan(runs);
  return costs ? text + table_costs(t, *kind, runs, *costs) : text;
}

// A run's own process may remember the text: another computes its figures anew, once.
void ask_anew(const ReproOptions& o, const TableFile& t, const PlannedRun& r) {
  if (r.trial || o.program.empty() || summary_is_checked(r.directory)) return;
  // An earlier version's runs were finished without it.
  if (!read_summary(r.directory).contains(kConfigHashKey)) return;
  if (read_experiment(r.config, t.directory).tensor_device().kind != DeviceKind::cpu) return;
  if (!check_summary_in_own_process(o.program, r.directory).leaks()) return;
  // Its page says so from now on.
  write_run_report(r.directory);
}

// Trains those of the part's runs that are missing and wanted, in order; all that have finished are
// checked first. The exit code of a run that was stopped.
std::optional<int> train_missing(const TableFile& t, const ReproOptions& o, const TableKind& kind,
                                 const std::vector<PlannedRun>& runs, const TablePart& part,
                                 ReusedRuns& reused, bool& leak_found) {
  reused.require_planned(runs);
  TableClock clock = clock_of(runs, t, o, part);
  RunReportCallback report;
  size_t number = 0;
  const auto interrupted = [](const std::string& where, int signal) {
    log_info("stopped in {}; the same command continues from there", where);
    return signal ? 128 + signal : 0;
  };
  for (const PlannedRun& r : runs) {
    ++number;
    if (!part.includes(r)) continue;
    const std::string context = fmt::format("run {}/{} {}{} seed {}", number, runs.size(),
                                            r.trial ? "trial of " : "", place_of(r.cell), r.seed);
    if (pending_signal()) return interrupted(context, requested_signal());
    if (run_finished(r.directory)) {
      reused.require_planned(r);  // again: an earlier run's export may be its base
      complete_finished_run(r.directory);
      if (!o.report_only && part.wanted(r)) ask_anew(o, t, r);
      kind.measure_finished(r);
      leak_found = leak_found || leaks_unallowed(r);
      clock.finished(number - 1, read_summary(r.directory).value("seconds", 0.0));
      if (part.wanted(r) && !o.report_only) log_info("{}: finished before, reused", context);
      continue;
    }
    if (o.report_only || !part.wanted(r) || trial_diverged(r)) continue;
    RunControl control;
    control.run_directory = r.directory;
    control.resume = true;
    control.may_begin_anew = true;
    control.callbacks.push_back(&report);
    const StandardCallbacks callbacks(
        {.context = context, .seconds_after = [&, number](double seconds) {
           return clock.seconds_after(number - 1, seconds);
         }});
    const auto begin = std::chrono::steady_clock::now();
    try {
      const ExperimentOptions experiment = read_experiment(r.config, t.directory);
      if (o.ranks) {
        o.ranks->announce(r, t.directory);
        control.communicator = &o.ranks->on(experiment.tensor_device());
      }
      Trainer trainer(experiment, callbacks.added_to(control));
      if (number == 1 && !trainer.dataset().note().empty())
        log_info("text: {}: {}", trainer.dataset().name(), trainer.dataset().note());
      // Another rank may have got the signal.
      if (trainer.run() == RunEnd::stopped) return interrupted(context, trainer.stop_signal());
    } catch (const DivergedError& e) {
      if (!r.trial) throw;
      log_warning("{} diverged: {}", context, e.what());
      write_file_atomically(r.directory + "/" + kDivergedFile, std::string(e.what()) + "\n");
      continue;
    }
    ask_anew(o, t, r);
    kind.measure_finished(r);
    leak_found = leak_found || leaks_unallowed(r);
    clock.finished(number - 1,
                   std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    write_table(kind, runs);
  }
  return {};
}

bool trial_diverged(const PlannedRun& run) {
  return std::filesystem::exists(run.directory + "/" + kDivergedFile);
}

int run_table(const ReproOptions& o) {
  const TableFile t = read_table_file(o);
  const auto kind = make_table_kind(t);
  auto runs = plan_with_data(t, o, *kind);
  const auto asked_for = [&](const PlannedRun& r) {
    return o.only.empty() || std::find(o.only.begin(), o.only.end(), r.cell.model) != o.only.end();
  };
  if (!o.report_only) require_fitting(t, runs, asked_for);
  bool leak_found = false;  // after the first step of a run that does not allow it
  ReusedRuns reused(t.directory);
  std::filesystem::create_directories(o.directory);
  const auto stands_first = [](const PlannedRun& r) { return !r.in_table; };
  const bool trials =
      std::any_of(runs.begin(), runs.end(), [](const PlannedRun& r) { return r.trial; });
  if (trials) {
    // What the cells' configs are is known when all trials are.
    const auto wanted = [&](const PlannedRun& r) {
      return r.in_table || r.trial ? asked_for(r) : true;
    };
    if (const auto stopped =
            train_missing(t, o, *kind, runs, {stands_first, wanted}, reused, leak_found))
      return *stopped;
    runs = plan_with_data(t, o, *kind);
  }
  const auto wanted = [&](const PlannedRun& r) { return r.in_table ? asked_for(r) : !trials; };
  const auto all = [](const PlannedRun&) { return true; };
  if (const auto stopped = train_missing(t, o, *kind, runs, {all, wanted}, reused, leak_found))
    return *stopped;
  if (!o.report_only) kind->measure_given();
  const auto files = write_table(*kind, runs);
  if (files.empty() && o.report_only) refuse_empty_report(runs, o);
  if (std::find(files.begin(), files.end(), "table.md") != files.end())
    fmt::print("{}\n",
               fit_terminal(STDOUT_FILENO, without_escapes(read_file(o.directory + "/table.md"))));
  for (const auto& file : files) fmt::print("{}/{}\n", o.directory, file);
  return leak_found ? int(ExitCode::check_failed) : 0;
}

}  // namespace reverie
