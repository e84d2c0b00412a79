#pragma once
// Tables: which runs they need, training what is missing, and writing the result.

#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace reverie {

// A table's JSON file:
//   {"title", "report": {...paper figures, notes: see table.h...}, "base": experiment,
//    "models": {NAME: patch}, "block_sizes": {"64": patch},
//    "presets": {PRESET: {"models": [...], "block_sizes": [...], "seeds": [...], "patch": patch,
//    "model_patches": {NAME: patch}}}}
// A run's config is base, then the patches (RFC 7386) of its block, its model, the preset, and the
// preset's for this model; then model.block_size and seed are set.
struct TablePreset {
  std::vector<std::string> models;
  std::vector<int64_t> block_sizes, seeds;
};
struct PlannedRun {
  std::string model;
  int64_t block_size = 0, seed = 0;
  Config config;          // of the experiment
  std::string directory;  // under the table's: runs/<model>-<block>-seed<seed>-<hash of resolved
                          // config and tokens>
};

struct ReproOptions {
  std::string table_file, preset, directory, command;
  std::vector<std::string> overrides;  // --set, applied to every run
  std::vector<std::string> only;       // models to train now ("gpt"); empty: all
  bool report_only = false;            // train nothing, write the table of what is finished
};

// The runs of a preset, in the order they are trained: every cell of the table has its first seed
// before any has its second.
std::vector<PlannedRun> plan_table(const ReproOptions&);

// Trains what is missing (finished runs of the same resolved config are reused, interrupted ones
// resumed), writes table.md, table.json and report.html into options.directory after every run, and
// returns 0, or 128 + n when signal n stopped it.
int run_table(const ReproOptions&);

}  // namespace reverie
