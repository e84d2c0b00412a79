#pragma once
/// Notices weights that something else than the optimizer changes: what an evaluation showed a model
/// could lie in them afterwards, in checkpoints as well.

#include <optional>
#include <string>

#include "trainers/optimizers/flat_parameters.h"
#include "trainers/runs/verdict.h"

namespace reverie {

class WeightWatch {
 public:
  /// Of every so many steps one is watched, and those around an evaluation.
  static constexpr int64_t kInterval = 16;

  explicit WeightWatch(const FlatParameters& parameters) : parameters_(parameters) {}
  /// The optimizer, or a checkpoint, has just written them.
  void note() { noted_ = parameters_.sum_of_squares(); }
  void forget() { noted_.reset(); }
  /// A leak where they are not as they were noted; empty where they are, or were not noted. `during`:
  /// "the forwards of step 101".
  Verdict ask(const std::string& during, int64_t step) const;

 private:
  const FlatParameters& parameters_;
  std::optional<double> noted_;
};

}  // namespace reverie
