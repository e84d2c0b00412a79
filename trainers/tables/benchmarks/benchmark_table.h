#pragma once
/// The table of benchmarks: right answers by model and task, each compared item by item with the
/// baseline and with the controls that it must beat.

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainers/benchmarks/statistics.h"
#include "trainers/reports/numbers.h"
#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/definition.h"

namespace reverie {

/// What stands in one row: a model on a task, with so many latents or at a stage.
struct BenchmarkCell {
  std::string task, model;
  int64_t latents = 0, stage = 0;  ///< 0: none
  bool shuffled = false;           ///< with the latents of other items
  int64_t latents_every = 0;       ///< made anew after so many tokens of an answer; 0: once
  bool operator==(const BenchmarkCell&) const = default;
};

/// One measurement, of one run or of a published model.
struct BenchmarkRun {
  BenchmarkCell cell;
  std::optional<int64_t> seed;  ///< none: nothing was trained
  std::vector<double> right;    ///< of each item: 0 or 1
  std::string items_hash;       ///< of the items, which all runs of a task must share
  int64_t all_items = 0;        ///< of the task; more than were asked where it was limited
  double chance = std::nan("");
  double tokens = 0, milliseconds = 0;  ///< an item, in the mean
  Verdict verdict;
  Json summary;  ///< null: nothing was trained
  std::string directory = {};
};

/// A row against another, on the same items.
struct BenchmarkComparison {
  double mean = 0, low = 0, high = 0;  ///< of right answers; 95 % over items, means over seeds
  std::vector<double> by_seed;
  double p = 1;        ///< McNemar's, the largest of the seeds
  bool leaks = false;  ///< one of the two does
  /// 1 or -1 where the interval leaves out 0 and all seeds agree; else 0.
  int sign() const;
};

struct BenchmarkRow {
  BenchmarkCell cell;
  std::string title;
  std::vector<int64_t> seeds;
  std::map<int64_t, std::vector<double>> right;  ///< by seed; 0: nothing was trained
  bool trained = true;
  int64_t items = 0, all_items = 0;
  double chance = std::nan("");
  Statistic accuracy, tokens, milliseconds;
  std::optional<BenchmarkComparison> against_base;
  Verdict verdict;
};

/// A row with latents or thoughts, and what it is compared with.
struct BenchmarkFinding {
  const BenchmarkRow* row = nullptr;
  struct Against {
    const BenchmarkRow* row = nullptr;
    BenchmarkComparison comparison;
  };
  std::vector<Against> against;  ///< the baseline first, where it has been measured
};

/// A row that was not measured, because a file with its items is missing.
struct BenchmarkGap {
  BenchmarkCell cell;
  std::string file;  ///< as the task's definition names it
  std::string title = {};
};

/// A model whose rows are left out, because no run of it has finished.
struct MissingRuns {
  std::string model;
  std::string command;  ///< what makes one
  std::string title = {};
};

struct BenchmarkRoles {
  std::string baseline;
  std::vector<std::string> tasks;
  Named<std::vector<std::string>> compared;
  int64_t resamples = 10000;
};

struct BenchmarkTable {
  std::string title, citation;
  BenchmarkRoles roles;
  std::vector<std::string> notes;
  std::vector<TableModel> models;
  std::vector<BenchmarkRow> rows;  ///< by task, model, latents, stage
  std::vector<BenchmarkGap> gaps;  ///< "no data"
  std::vector<MissingRuns> missing_runs;
  int64_t finished_runs = 0, planned_runs = 0;
  Provenance provenance;

  std::vector<const BenchmarkRow*> of_task(const std::string& task) const;
  std::vector<const BenchmarkGap*> gaps_of_task(const std::string& task) const;
  const BenchmarkRow* baseline_of(const std::string& task) const;
  std::vector<BenchmarkFinding> findings() const;
};

/// UserError for two runs of one cell and seed, and for runs of one task on other items.
BenchmarkTable build_benchmark_table(const TableReport& report, const TableHeading& heading,
                                     const BenchmarkRoles& roles,
                                     const std::vector<BenchmarkRun>& runs,
                                     Provenance provenance = {});

/// Gives a table rows without figures, under the titles that its models have.
void add_gaps(BenchmarkTable& table, std::vector<BenchmarkGap> gaps);

/// Names models whose rows are left out.
void add_missing_runs(BenchmarkTable& table, std::vector<MissingRuns> missing);

/// The means over the seeds that both have; a row that was not trained stands beside every seed.
/// nullopt without a common seed.
std::optional<BenchmarkComparison> compare_rows(const BenchmarkRow& a, const BenchmarkRow& b,
                                                int64_t resamples);

/// Whether latents help, and against what: a paragraph for each row that has some.
std::vector<std::string> benchmark_sentences(const BenchmarkTable& table);
/// The sentence above the table.
std::string explain_benchmarks(const BenchmarkTable& table);

/// What stands in a row whose items are missing.
inline constexpr const char* kNoData = "no data";
/// The tasks that a page shows: with rows, or with gaps alone.
std::vector<std::string> shown_tasks(const BenchmarkTable& table);

/// "71.2 %", "71.2 ± 0.8 %"; with the verdict's mark.
std::string accuracy_text(const BenchmarkRow& row);
/// "+7.2 (+5.1 to +9.3)", in points.
std::string points_text(const BenchmarkComparison& comparison);
std::string p_text(double p);
std::string figure_text(const Statistic& statistic, int decimals);

Json benchmark_table_json(const BenchmarkTable& table);
std::string benchmark_table_csv(const BenchmarkTable& table);
std::string benchmark_table_markdown(const BenchmarkTable& table,
                                     const std::vector<PlotFile>& plots = {});
std::string benchmark_report_html(const BenchmarkTable& table);
std::vector<PlotFile> benchmark_plot_files(const BenchmarkTable& table);

}  // namespace reverie
