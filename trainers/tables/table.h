#pragma once
// A table of measured runs beside a paper's figures. What was not run is absent; what leaks is
// labelled.

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/provenance.h"

namespace reverie {

inline constexpr const char* kLeakLabel = "LEAKS";

// One finished run of one cell.
struct TableRun {
  std::string model;
  int64_t block_size = 0;
  uint64_t seed = 0;
  Json summary;  // summary.json: losses, causal, max_future_logit_change, parameters, seconds,
                 // commit
  std::vector<Json> metrics;  // read_metrics(run_dir): curves and samples of the report
  std::string run_dir;
};

// Over the seeds of one cell; a loss that was not finite does not count.
struct Statistic {
  double mean = std::numeric_limits<double>::quiet_NaN();  // NaN: n = 0
  std::optional<double> sd;  // sample standard deviation (n - 1); none for n < 2
  int64_t n = 0;
};
Statistic statistic(const std::vector<double>& values);

struct TableRow {
  std::string model, title;
  int64_t block_size = 0;
  Json paper;  // {"train_loss": x}, or null
  Statistic train_loss, val_loss, val_loss_prefix_only;
  bool causal = true;                  // of every run
  double max_future_logit_change = 0;  // over all runs
  int64_t parameters = 0;
  std::vector<uint64_t> seeds;
  std::string label() const { return causal ? "" : kLeakLabel; }
};

struct Table {
  std::string title, citation;
  std::vector<TableModel> models;    // in the order of the rows
  std::vector<std::string> columns;  // of table.md and the report
  std::vector<std::string> notes;
  std::optional<int64_t> vocabulary_size;
  std::vector<TableRow> rows;  // by block size, then in the order of `models`
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;  // planned: 0 when not known

  const TableModel& model(const std::string& name) const;
  std::vector<int64_t> block_sizes() const;
  const TableRow* find(const std::string& model, int64_t block_size) const;
  std::optional<double> uniform_loss() const;  // ln(vocabulary size): the loss of uniform guessing
};

// `definition`; only the title is required:
//   {"title": TEXT, "citation": TEXT, "notes": [TEXT, ...],
//    "paper": {MODEL: {BLOCK_SIZE: {"train_loss": x}}},
//    "models": {NAME: {"title", "description"}},   row order; the first causal model is the
//    baseline; others follow "vocabulary_size": N,                         a run's summary may say
//    it, too "columns": [NAME, ...],                       of table_columns(); default: all
//    "preset": TEXT, "command": TEXT,              provenance
//    "planned_runs": N}                            so that an unfinished table says so
// The data set comes from the summaries' "dataset" {"name", "hash", "note"}.
// Throws ConfigError for another key or type, DataError for a summary that lacks what the contract
// promises, UserError for two runs of the same cell and seed, of one cell with different parameter
// counts, or trained on different data.
Table build_table(const Json& definition, const std::vector<TableRun>& runs,
                  Provenance provenance = {});

struct TableColumn {
  const char* name;
  const char* heading;
  bool numeric;
};
const std::vector<TableColumn>& table_columns();
// The text of one cell without markup, and whether it is a number that has to carry the row's
// label.
struct TableCell {
  std::string text;
  bool labelled = false;
};
TableCell table_cell(const TableRow& row, const std::string& column);

// "12 of 45 planned runs have finished."; empty when all have.
std::string unfinished_note(int64_t finished, int64_t planned);
std::string unfinished_note(const Table& table);
// Two sentences made from the numbers: what the leak gives, what remains without it.
std::string explain_table(const Table& table);

Json table_json(const Table& table);             // the contract of table.json
std::string table_markdown(const Table& table);  // table.md

std::string format_loss(double loss);                      // "1.768"; an en dash for NaN
std::string format_statistic(const Statistic& statistic);  // "1.768 ± 0.004"
std::string format_change(double change);                  // "0", "9.44", "1.2e-05"
std::string format_integer(int64_t value);                 // "803,840"

}  // namespace reverie
