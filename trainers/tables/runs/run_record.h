#pragma once
/// What a run directory says of its run, read for a page: config, curves, samples, summary.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "trainers/reports/svg_plot.h"
#include "trainers/runs/verdict.h"

#include "core/config.h"

namespace reverie {

struct RunRecord {
  std::string directory, name;
  Json config;                ///< config.resolved.json
  Json summary;               ///< read_summary(); null while the run is not finished
  Json dataset;               ///< dataset.json; null where there is none
  std::vector<Json> metrics;  ///< metrics.jsonl
  Verdict leak;               ///< kept_leak(): found by a later command, or the base's

  bool finished() const { return !summary.is_null(); }
  /// "LEAKS", where the summary, `leak` or any line of metrics says so; it stands beside every
  /// loss.
  std::string label() const;
  bool leaks() const;  ///< label() says so; other labels ("shrunk by 4") do not
  /// "causal", "LEAKS", or that the trained weights are still to be probed.
  std::string verdict() const;
  int64_t last_step() const;
  /// The values of `key` (as of figure()) in the events of one kind ("train", "eval"), by step.
  std::vector<PlotPoint> curve(const std::string& event, const std::string& key) const;
  /// The same, averaged over each hundredth of `steps`.
  std::vector<PlotPoint> smooth_curve(const std::string& event, const std::string& key,
                                      double steps) const;
  /// Whether the summary has losses with memory carried from window to window.
  bool carries_memory() const { return summary.is_object() && summary.contains("carried"); }
  /// Whether it measured its losses behind latents, beside the base's own of every token.
  bool has_latents() const;
  /// The validation loss that its training lowers: behind latents, where some are written.
  const char* objective() const { return has_latents() ? "augmented.val_loss" : "val_loss"; }
  /// A number of the summary, or NaN; "augmented.val_loss" is a number inside another.
  double figure(const char* key) const;
};

/// Whether the objectives of the finished runs are losses of the same tokens: all of every token, or
/// all behind latents by one rule.
bool same_losses(const std::vector<RunRecord>& runs);

/// UserError for a directory that holds no run; DataError for a damaged file.
RunRecord read_run_record(const std::string& directory);

/// Every value of a JSON object by its path, in order: {"train.steps", "2000"}; an empty object or
/// array is a value, and so is a component's type: {"model.memory", "imm"}.
std::vector<std::pair<std::string, std::string>> flat_values(const Json& object);

struct ConfigDifference {
  std::string path;
  std::vector<std::string> values;  ///< of each run; empty: the run's config has no such value
};
/// The paths at which the configs are not all the same.
std::vector<ConfigDifference> differing_values(const std::vector<RunRecord>& runs);

}  // namespace reverie
