#pragma once
/// A table of one experiment with some of its values varied: what each combination reached, over
/// seeds.

#include <string>
#include <utility>
#include <vector>

#include "trainers/reports/numbers.h"
#include "trainers/reports/provenance.h"
#include "trainers/tables/runs/run_record.h"

namespace reverie {

/// One path of the config and the values it takes.
struct SweepAxis {
  std::string path, name;    ///< "optimizer.learning_rate", "learning_rate"
  std::vector<Json> values;  ///< one or more
};
/// A combination of values.
struct SweepCell {
  std::string name;                                       ///< "learning_rate=0.001,dropout=0.1"
  std::vector<std::pair<std::string, Json>> assignments;  ///< path, value
};

/// {PATH: [VALUE, ...]} -> axes. ConfigError for an empty list, a path that no config can have, and
/// for "seed" and the data, which are not swept: losses on other data are other quantities.
std::vector<SweepAxis> read_sweep_axes(const Json& vary, const std::string& path);
/// All combinations, the last axis fastest; names are unlike and fit for a directory.
std::vector<SweepCell> sweep_cells(const std::vector<SweepAxis>& axes);

/// One finished run.
struct SweepRun {
  std::string cell;
  int64_t seed = 0;
  RunRecord record;
};
/// A figure of every run's summary.
struct SweepColumn {
  const char *key, *heading, *series;
};
struct SweepRow {
  SweepCell cell;
  std::vector<int64_t> seeds;
  std::vector<Statistic> losses;  ///< of each column
  std::string label;              ///< of any of its runs
  int64_t parameters = 0;
  double seconds = 0;      ///< mean
  bool near_best = false;  ///< not the best, but its mean is within two standard errors of it
  const Statistic& compared() const { return losses.at(0); }
};
struct SweepTable {
  std::string title;
  std::vector<std::string> notes;
  std::vector<SweepAxis> axes;
  std::vector<SweepRow> rows;  ///< finished cells, in the order of sweep_cells()
  /// The validation loss that training lowers comes first; a second one stands beside it in plots.
  /// Behind latents and the base's on the same tokens, or of every token.
  std::vector<SweepColumn> columns;
  bool comparable = true;  ///< the first column is of the same tokens in every row
  /// The lowest mean of the first column of the rows without a label; none where all have one, or
  /// the column is not comparable.
  std::optional<size_t> best;
  std::vector<SweepRun> runs;
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;
};
SweepTable build_sweep_table(const std::vector<SweepAxis>& axes, std::vector<SweepRun> runs,
                             Provenance provenance = {});

std::string explain_sweep(const SweepTable& table);
Json sweep_table_json(const SweepTable& table);
std::string sweep_table_markdown(const SweepTable& table, const std::vector<PlotFile>& plots = {});
std::string sweep_report_html(const SweepTable& table);
std::vector<PlotFile> sweep_plot_files(const SweepTable& table);

/// The JSON Schema of a table's file of this kind.
Json sweep_schema();

}  // namespace reverie
