#pragma once
/// Notices trained weights that something else than the optimizer changes: the text of an
/// evaluation could lie in them afterwards, in checkpoints as well. Each rank watches the values
/// that it keeps between steps (FlatParameters::fingerprint()): with sharded masters, not all.
/// Parameters that are not trained are not watched; on a GPU, only changes of the weights' norm are
/// seen.

#include <optional>
#include <string>

#include "trainers/optimizers/flat_parameters.h"
#include "trainers/runs/verdict.h"

namespace reverie {

class WeightWatch {
 public:
  /// Every sixteenth step is watched, and those around an evaluation.
  static constexpr int64_t kInterval = 16;

  explicit WeightWatch(const FlatParameters& parameters) : parameters_(parameters) {}
  /// The optimizer, or a checkpoint, has just written them.
  void note() { noted_ = parameters_.fingerprint(); }
  void forget() { noted_.reset(); }
  bool noted() const { return noted_.has_value(); }
  /// A leak where they are not as they were noted; empty where they are, or were not noted.
  /// `during`: "the evaluation after step 100". Of this rank alone.
  Verdict ask(const std::string& during, int64_t step) const;

 private:
  const FlatParameters& parameters_;
  std::optional<std::string> noted_;
};

}  // namespace reverie
