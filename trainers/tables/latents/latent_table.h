#pragma once
/// A table of what latents change: perplexity by position after the insertion, for each source of
/// latents, their number, and the controls that they must beat.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainers/evaluation/latent_measurement.h"
#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/definition.h"

namespace reverie {

/// The name of a model's control: the same runs with latents of other documents.
inline constexpr const char* kShuffledSuffix = "_shuffled";

/// One finished and measured run.
struct LatentRun {
  std::string model;
  int64_t latents = 0;  ///< 0: a model without
  int64_t seed = 0;
  Json summary;
  LatentMeasurement measurement;
  std::string directory;
  Verdict verdict;                  ///< of the run, and of the measurement at the table's own sizes
  int64_t training_insertions = 0;  ///< insertions of its latents that training saw
  bool other_data = false;          ///< trained on other data than the table's
};

/// A model at one number of latents: a row of table.json for each position, one of table.md.
struct LatentLine {
  std::string model, title;
  int64_t latents = 0;
  std::vector<int64_t> seeds;
  LatentEffect effect;              ///< over the seeds
  std::map<int64_t, double> paper;  ///< percent, by position
  LatentCosts costs;                ///< latency: mean over the seeds
  /// The subject's change of this line's perplexity, text by text; for controls only.
  /// Where it has other latents than the subject, the subject's model with as many is compared.
  std::optional<LatentEffect> subject_against_it;
  Verdict verdict;                  ///< of all its runs
  int64_t training_insertions = 0;  ///< of each run
};

struct LatentTable {
  std::string title, citation;
  std::vector<TableModel> models;
  std::vector<std::string> notes;
  std::vector<int64_t> shown;     ///< positions of table.md
  std::vector<LatentLine> lines;  ///< in the order of `models`, then by the number of latents
  LatentCosts base_costs;
  std::vector<double> base_perplexity;  ///< by position, from 1
  double base_perplexity_of_all = 0;
  std::string base;  ///< the model's path
  Provenance provenance;
  int64_t finished_runs = 0, planned_runs = 0;
  int64_t subject_latents = 0;
  /// Models that differ in their training insertions alone: drawn as a curve against these.
  std::vector<std::string> curve;

  const LatentLine* find(const std::string& model, int64_t latents) const;
  /// The line that others are controls of: the first model's with subject_latents, or with the most;
  /// null where no run with latents has finished.
  const LatentLine* subject() const;
};

struct LatentReport final : TableReport {
  Named<Named<Named<double>>> paper;  ///< percent, by model, number of latents and position
  int64_t subject_latents = 0;        ///< 0: the most
  std::vector<std::string> curve;     ///< models: the same training, longer and longer
  void fields(Fields&) override;
};
struct LatentHeading : TableHeading {
  std::string base;            ///< the base's path
  std::vector<int64_t> shown;  ///< positions of table.md
};

/// Lines are in the order of report.models; others follow.
/// A run that was measured with latents of other documents, too, gives two lines: its model's, and
/// that of MODEL_shuffled. UserError for two runs of one cell and seed, or runs that were not measured
/// on the same texts or data.
LatentTable build_latent_table(const LatentReport& report, const LatentHeading& heading,
                               const std::vector<LatentRun>& runs, int64_t resamples,
                               Provenance provenance = {});

/// The opening, made from the numbers, of which it holds three at most: what latents change, and
/// which controls that beats.
std::string explain_latents(const LatentTable& table);
/// What stands behind it: position 1, and each control's figures.
std::string detail_latents(const LatentTable& table);

/// "", or "shrunk by 64" where the table's runs were.
std::string shrunk_label(const LatentTable& table);

Json latent_table_json(const LatentTable& table);
/// table.md, with `plots` beside it.
std::string latent_table_markdown(const LatentTable& table,
                                  const std::vector<PlotFile>& plots = {});
std::string latent_table_csv(const LatentTable& table);
std::string latent_report_html(const LatentTable& table);
/// Its plots, for files beside table.md.
std::vector<PlotFile> latent_plot_files(const LatentTable& table);

std::string format_percent(double change);  ///< "-1.53 %"; "x 29" where perplexity doubles or worse

}  // namespace reverie
