#pragma once
/// The learning-rate range test: at which rate does training begin to diverge?

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trainers/runs/experiment.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct LearningRateRangeOptions {
  int64_t steps = 100;
  double low = 1e-6, high = 1;
};

struct LearningRateRange {
  struct Point {
    double rate = 0, loss = 0, smooth = 0;  ///< nats per token; smooth: averaged, as in the paper
  };
  std::vector<Point> points;  ///< up to where the loss ran away
  double lowest = 0;          ///< the rate at which the smooth loss is lowest
  /// Before it, the rate at which the smooth loss falls fastest; absent where it rises from the
  /// first rates on.
  std::optional<double> suggested;
  bool ran_away = false;  ///< false: even `high` did not spoil training
  bool leaks = false;
  std::string label() const { return leaks ? kLeakLabel : ""; }
};

/// One short training from the run's initial weights in which the rate grows from `low` to `high`,
/// by the same factor each step (L. N. Smith, "Cyclical Learning Rates for Training Neural
/// Networks", 2017, section 3.3, on a logarithmic scale); it ends where the loss is twice the lowest
/// or not finite. Nothing is written. ConfigError for a model that leaks and may not; UserError for
/// one that carries memory from step to step.
LearningRateRange find_learning_rate(const ExperimentOptions& options,
                                     const LearningRateRangeOptions& range = {},
                                     const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace reverie
