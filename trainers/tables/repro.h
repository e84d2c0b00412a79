#pragma once
/// Tables: which runs they need, training what is missing, and writing the result.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainers/tables/table_costs.h"
#include "trainers/tables/table_kind.h"

namespace reverie {

class TableRanks;

/// A table's JSON file:
///   {"kind": KIND, "title", "report": {...paper figures, notes...}, "base": experiment,
///    "models": {NAME: patch},
///    "presets": {PRESET: {"seeds": [...], "model_seeds": {NAME: [...]}, "patch": patch,
///     "model_patches": {NAME: patch}}}}
///   where "model_seeds" names those of the seeds that a model is trained with; left out: all
/// and what its kind wants besides:
/// (`reverie modules` lists the keys of every kind); a sweep has neither "models" nor
/// "model_patches".
/// A run's config is base, then the patches (RFC 7386) of its level, its model, the preset, and the
/// preset's for this model; then what the kind sets (the level itself), and the seed.
struct ReproOptions {
  std::string table_file, preset, directory, command;
  std::optional<Json> table = {};     ///< instead of reading table_file, which then only names it
  std::string config_directory = {};  ///< files named in configs lie here; empty: beside the table
  std::vector<std::string> table_overrides;  ///< "a.b=value", applied to the table's file
  std::vector<std::string> overrides;        ///< the same, applied to every run's config
  std::vector<std::string> only;             ///< models to train now ("gpt"); empty: all
  bool lenient = false;                      ///< comments and trailing commas in the table's file
  bool report_only = false;                  ///< train nothing, write the table of what is finished
  int64_t shrink = 1;                        ///< all sizes are divided by it (shrunk_table.h)
  /// This program's file, which computes each run's figures anew in a process of their own
  /// (summary_check.h); empty: nobody does.
  std::string program = {};
  TableRanks* ranks = nullptr;  ///< on the first of several ranks: all of them; null: one process
  bool without_data = false;    ///< plan_table() looks for no data: no run is then data_prepared
};

/// The runs of a preset, in the order they are trained: what others stand on, then every cell of the
/// table with its first seed before any has its second. Prepares no data: PlannedRun::data_prepared
/// says whose directory is known.
std::vector<PlannedRun> plan_table(const ReproOptions&);

/// Trains what is missing (finished runs of the same resolved config are reused, interrupted ones
/// resumed), writes table.md, table.json, report.html and what else the kind has into
/// options.directory after every run, and returns 0, or 128 + n when signal n stopped it.
/// DataError, before anything is trained, for a finished run that is not the planned one any more
/// (reused_runs.h); UserError for a report of runs none of which has finished.
int run_table(const ReproOptions&);

/// The cost of a preset (`reverie plan`), as text. Needs neither data nor weights, nor the devices
/// that its runs are for. With `costs`, what
/// each run takes of one rank and of a GPU as well.
std::string plan_table_text(const ReproOptions&, const std::optional<CostOptions>& costs = {});

/// The file, checked as its kind wants it; ConfigError, too, for a preset that it has not.
TableFile read_table_file(const ReproOptions&);

}  // namespace reverie
