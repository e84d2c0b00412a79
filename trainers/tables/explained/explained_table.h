#pragma once
/// The table of decoders: how much of a frozen run's memory can be put into words, beside another
/// text's memory, a wiped one, the final hidden state, and a decoder that reads nothing.

#include <optional>
#include <string>
#include <vector>

#include "trainers/evaluation/written_figures.h"
#include "trainers/reports/numbers.h"
#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/definition.h"

namespace reverie {

/// One finished run.
struct ExplainedRun {
  std::string model, use;
  int64_t seed = 0;
  std::string reads;  ///< ExplainedOptions::reads
  Json summary;
  std::string directory;
  WrittenMeasurement measured;
  Verdict verdict;
};

/// A decoder on one use, with one memory.
struct ExplainedRow {
  std::string model, title, use, reads, memory;
  bool facts = false;          ///< `exact` counts facts, not words
  Statistic exact, right;      ///< shares
  Statistic whole;             ///< share of records written as they should be
  Statistic loss;              ///< nats a word
  std::vector<double> losses;  ///< of each record, the mean over seeds
  int64_t records = 0, pieces = 0, seeds = 0;
  Verdict verdict;
  double perplexity() const;
};

/// What the controls say of one decoder's memory on one use.
struct ExplainedFinding {
  enum class Holds { nothing, something, more_than_final_state, unknown };
  Holds holds = Holds::unknown;
  std::string model, use;
  /// What replaces the memory, and how the loss changes by it.
  struct Control {
    std::string name;
    LossChange change;
  };
  std::vector<Control> controls;
  std::string sentence;
};

struct ExplainedTable {
  std::string title, citation;
  std::vector<std::string> notes, uses;
  std::vector<TableModel> models;
  std::vector<ExplainedRow> rows;  ///< by use, then in the order of `models`
  std::vector<ExplainedFinding> findings;
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;
  std::vector<const ExplainedRow*> of_use(const std::string& use) const;
};

/// UserError for two runs of one cell and seed, or of one use on different records.
ExplainedTable build_explained_table(const TableReport& report, const TableHeading& heading,
                                     const std::vector<std::string>& uses,
                                     const std::vector<ExplainedRun>& runs,
                                     Provenance provenance = {});

/// "97.3 ± 0.4 %", without the deviation where there is none, or "-" where nothing was measured.
std::string percent_text(const Statistic&);
Json explained_table_json(const ExplainedTable& table);
std::string explained_table_csv(const ExplainedTable& table);
/// One for each use: what is written exactly from every decoder's own and swapped memory.
std::vector<PlotFile> explained_plot_files(const ExplainedTable& table);
std::string explained_table_markdown(const ExplainedTable& table,
                                     const std::vector<PlotFile>& plots = {});
std::string explained_report_html(const ExplainedTable& table);

}  // namespace reverie
