#pragma once
/// metrics.jsonl: what a run measured, one JSON object a line, appended as it happens.
///
///   {"event":"train","step","loss","learning_rate","gradient_norm","tokens","tokens_per_second",
///    "seconds"}
///   {"event":"eval","step","train_loss","val_loss","val_loss_prefix_only"}; with latents, these are
///   the
///    base's, of every token, and "augmented" holds {"train_loss", "val_loss",
///    "base_loss_on_same_predictions", "predictions", "insertions", "positions", "rule"}; of a mix,
///    "val_loss_by_entry" is [{"entry", "loss", "predictions"}, ...]
///   {"event":"sample","step","text"}
///   {"event":"config","step","changes":["$.train.steps: 1000 -> 2000", ...]}: resumed so
///
/// A value that is not finite is null. With a label set (LEAKS), every line carries "label".

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace reverie {

struct TrainMetrics {
  int64_t step = 0;
  double loss = 0;  ///< what is minimised: nats per target token, behind latents where some are
  double learning_rate = 0;
  double gradient_norm = 0;  ///< before clipping
  int64_t tokens = 0;        ///< target tokens since step 0
  double tokens_per_second = 0;
  double seconds = 0;  ///< of training since step 0, over all resumptions
};
struct EvalMetrics {
  int64_t step = 0;
  double train_loss = 0, val_loss = 0;  ///< teacher-forced
  double val_loss_prefix_only = 0;      ///< each position from a forward over its own prefix alone
  Json augmented = {};                  ///< behind latents (EvaluationInfo); null: there are none
  Json val_loss_by_entry = {};          ///< entries_json() of a mix; null: one text
  /// Memory carried from window to window, and reset on the same windows; absent: none is carried.
  std::optional<double> val_loss_carried = {}, val_loss_on_carried_windows = {};
};

class MetricsLog {
 public:
  /// Opens run_dir/metrics.jsonl for appending. A fresh run (no `resume_step`) starts an empty file;
  /// a resumed one keeps the lines up to `resume_step` and drops later ones (they will come again)
  /// together with a torn last line; with `repeats_evaluation` also evaluations and samples of that
  /// step. MachineError when the directory refuses.
  explicit MetricsLog(const std::string& run_dir, std::optional<int64_t> resume_step = std::nullopt,
                      bool repeats_evaluation = false);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void set_label(std::string label) { label_ = std::move(label); }
  /// Gives every line that is there already the label of its step ("": none), in one durable
  /// replacement of the file.
  void relabel(const std::function<std::string(int64_t step)>& label_of);
  void train(const TrainMetrics&);
  void eval(const EvalMetrics&);
  void sample(int64_t step, const std::string& text);
  /// Any other event: an object with "event" and "step". One write(2) a line: a killed process
  /// leaves at most a torn last line. MachineError (and no part of the line in the file) when the
  /// disk is full.
  void append(Json event);

 private:
  void replace(const std::string& contents);

  std::string file_, label_;
  int descriptor_ = -1;
};

/// All whole lines of run_dir/metrics.jsonl; none when the file is missing. A torn last line is left
/// out; a damaged line elsewhere is a DataError with its number.
std::vector<Json> read_metrics(const std::string& run_dir);

/// event[key] as a number; NaN where it is missing or null.
double metric_value(const Json& event, const std::string& key);

}  // namespace reverie
