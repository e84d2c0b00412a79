#pragma once
/// The callbacks of an ordinary run: metrics.jsonl, TensorBoard, the audit, progress.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trainers/training/trainer.h"

namespace reverie {

struct MonitoringOptions {
  bool progress = true;      ///< a progress line, and a log line for each evaluation
  std::string context = {};  ///< before the progress line and those of evaluations: "run 3/15"
  /// How long a table's later runs will take, given the seconds of this one.
  std::function<double(double)> seconds_after = {};
};

/// Owns its callbacks: must live until the run has ended.
class StandardCallbacks {
 public:
  explicit StandardCallbacks(MonitoringOptions options = {});
  ~StandardCallbacks();
  StandardCallbacks(const StandardCallbacks&) = delete;
  StandardCallbacks& operator=(const StandardCallbacks&) = delete;
  /// Puts them before the callbacks that are there. Only the first rank writes into the run
  /// directory: for others, nothing is added.
  RunControl added_to(RunControl control) const;

 private:
  std::vector<std::unique_ptr<Callback>> callbacks_;
};

}  // namespace reverie
