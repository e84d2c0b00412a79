#pragma once
/// The table of memories: what each of them does on each task with its memory carried, wiped and
/// swapped, over seeds, and what it costs.

#include <optional>
#include <string>
#include <vector>

#include "trainers/reports/numbers.h"
#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/memories/memory_measurement.h"

namespace reverie {

/// One finished run.
struct MemoryRun {
  std::string model, task;
  int64_t seed = 0;
  Json summary;
  std::string directory;
  MemoryMeasurement measured;
};

/// One quantity with the memory carried, and with other memory in its place (n = 0: none is carried).
struct MemoryFigures {
  Statistic carried, wiped, swapped;
  double chance = 0;    ///< of right answers
  int64_t answers = 0;  ///< of one run
};
struct MemoryDistance {
  int64_t distance = 0;  ///< in windows
  MemoryFigures right;   ///< share of right answers
};

/// A model on one task.
struct MemoryRow {
  std::string model, title, task;
  std::vector<int64_t> seeds;
  std::vector<MemoryDistance> distances;  ///< of a generated task
  std::optional<MemoryFigures> beyond;    ///< of all its distances of one window or more
  std::optional<MemoryFigures> text;      ///< bits for each character, of a text
  int64_t parameters = 0, state_bytes = 0;
  double flops_per_token = 0;
  Statistic milliseconds_per_token;
  Verdict verdict;
  /// Of the text, or beyond one window. InternalError for a row without either.
  const MemoryFigures& figures() const;
};

/// Whether a task measures memory at all, from the table's own figures.
struct MemorySanity {
  std::string task;
  /// Shares of right answers beyond one window. NaN: no run has finished.
  double oracle = 0, baseline = 0, low = 0, high = 0, chance = 0;
  bool known() const;
  bool oracle_holds() const { return oracle >= 0.95; }
  /// Chance lies within the baseline's 95 % interval (Wilson), for as many answers as one run has:
  /// runs of several seeds answer the same questions, so that they are not so many more.
  bool baseline_holds() const { return low <= chance && chance <= high; }
  std::string sentence(const std::string& oracle_title, const std::string& baseline_title) const;
};

struct MemoryTable {
  std::string title, citation, baseline, oracle;
  std::vector<std::string> notes;
  std::vector<TableModel> models;  ///< in the order of the rows
  std::vector<std::string> tasks;
  std::vector<MemoryRow> rows;  ///< by task, then in the order of `models`
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;

  const MemoryRow* find(const std::string& model, const std::string& task) const;
  std::vector<const MemoryRow*> of_task(const std::string& task) const;
  std::string title_of(const std::string& model) const;
  /// One for each generated task that has rows.
  std::vector<MemorySanity> sanity() const;
};

struct MemoryRoles {
  std::string baseline, oracle;
  std::vector<std::string> tasks;  ///< in the order of the columns
};
/// Rows of models in the order of report.models; others follow. UserError for two runs of one cell
/// and seed, or of one task on different data.
MemoryTable build_memory_table(const TableReport& report, const TableHeading& heading,
                               const MemoryRoles& roles, const std::vector<MemoryRun>& runs,
                               Provenance provenance = {});

/// The sentences that stand above the table.
std::string explain_memories(const MemoryTable& table);
std::vector<std::string> sanity_sentences(const MemoryTable& table);
/// "97.1 ± 0.4 %", "1.874 ± 0.003"; an en dash where there is none.
std::string memory_figure(const Statistic& figure, bool is_text);
/// "3,168", or "3,168 to 4,224" where tasks differ.
std::string span_of(const std::vector<double>& values, int decimals);

Json memory_table_json(const MemoryTable& table);
std::string memory_table_csv(const MemoryTable& table);
std::string memory_table_markdown(const MemoryTable& table,
                                  const std::vector<PlotFile>& plots = {});
std::string memory_report_html(const MemoryTable& table);
std::vector<PlotFile> memory_plot_files(const MemoryTable& table);

/// A model's figures over all tasks, for the first table of the files.
struct MemoryOverview {
  const TableModel* model = nullptr;
  std::vector<const MemoryRow*> rows;  ///< by task; null: not finished
  std::string parameters, flops, milliseconds, state;
  Verdict verdict;
};
std::vector<MemoryOverview> memory_overview(const MemoryTable& table);

}  // namespace reverie
