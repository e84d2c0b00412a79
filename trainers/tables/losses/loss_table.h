#pragma once
/// A table of measured runs beside a paper's figures. What was not run is absent; what leaks is
/// labelled.

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "trainers/reports/numbers.h"
#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/definition.h"

namespace reverie {

/// One finished run of one cell.
struct LossRun {
  std::string model;
  int64_t block_size = 0;
  uint64_t seed = 0;
  Json summary;  ///< summary.json: losses, causal, max_future_logit_change, parameters, seconds,
                 ///< commit
  std::vector<Json> metrics;  ///< read_metrics(run_dir): curves and samples of the report
  std::string run_dir;
};

struct LossRow {
  std::string model, title;
  int64_t block_size = 0;
  Json paper;  ///< {"train_loss": x}, or null
  Statistic train_loss, val_loss, val_loss_prefix_only;
  /// Memory carried from window to window, and reset on the same windows; n = 0: none is carried.
  Statistic val_loss_carried, val_loss_on_carried_windows;
  bool causal = true;                  ///< of every run
  double max_future_logit_change = 0;  ///< over all runs
  int64_t parameters = 0;
  std::vector<uint64_t> seeds;
  std::string shrunk;  ///< "", or "shrunk by 64"
  std::string label() const {
    return causal ? shrunk : kLeakLabel + (shrunk.empty() ? "" : ", " + shrunk);
  }
};

struct LossTable {
  std::string title, citation;
  std::vector<TableModel> models;    ///< in the order of the rows
  std::vector<std::string> columns;  ///< of table.md and the report
  std::vector<std::string> notes;
  std::optional<int64_t> vocabulary_size;
  std::vector<LossRow> rows;  ///< by block size, then in the order of `models`
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;  ///< planned: 0 when not known

  const TableModel& model(const std::string& name) const;
  std::vector<int64_t> block_sizes() const;
  const LossRow* find(const std::string& model, int64_t block_size) const;
  std::optional<double> uniform_loss() const;  ///< ln(vocabulary size): the loss of guessing
};

/// A figure that a paper printed.
struct PaperLoss final : Fieldset {
  double train_loss = std::numeric_limits<double>::quiet_NaN();
  void fields(Fields&) override;
};
struct LossReport final : TableReport {
  Named<Named<PaperLoss>> paper;     ///< by model and block size
  int64_t vocabulary_size = 0;       ///< 0: a run's summary may say it
  std::vector<std::string> columns;  ///< of loss_columns(); none: all, those of carried memory
                                     ///< where a run carries some
  void fields(Fields&) override;
};

/// The rows are in the order of report.models, others follow; the first causal model is the baseline.
/// The data set comes from the summaries' "dataset" {"name", "hash", "note"}.
/// Throws DataError for a summary that lacks what the contract promises, UserError for two runs of
/// the same cell and seed, of one cell with different parameter counts, or trained on different data.
LossTable build_loss_table(const LossReport& report, const TableHeading& heading,
                           const std::vector<LossRun>& runs, Provenance provenance = {});

struct LossColumn {
  const char* name;
  const char* heading;
  bool numeric;
};
const std::vector<LossColumn>& loss_columns();
/// The text of one cell without markup, and whether it is a number that has to carry the row's
/// label.
struct LossCell {
  std::string text;
  bool labelled = false;
};
LossCell loss_cell(const LossRow& row, const std::string& column);

/// The opening, made from the numbers, of which it holds three at most: what the leak gives, or that
/// there is none.
std::string explain_losses(const LossTable& table);
/// What stands behind it: logit changes, guessing, and what remains without the leak.
std::string detail_losses(const LossTable& table);
/// What the columns of carried memory mean; "" where there are none.
std::string explain_carried(const LossTable& table);

Json loss_table_json(const LossTable& table);  ///< the contract of table.json
/// table.md, with `plots` beside it.
std::string loss_table_markdown(const LossTable& table, const std::vector<PlotFile>& plots = {});

}  // namespace reverie
