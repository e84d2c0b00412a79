#pragma once
/// Which readings go through the model together. A function of the readings and the options alone,
/// so that an evaluation that goes on after a kill makes the same batches again.

#include <cstdint>
#include <vector>

#include "trainers/benchmarks/readings.h"

namespace reverie {

/// Readings of equal length that begin alike. None is padded: no row depends on its neighbours.
struct ReadingBatch {
  size_t beginning = 0;          ///< place in ReadingPlan::beginnings
  std::vector<size_t> readings;  ///< places in the list of readings
  /// Each has one continuation and is read together with it: their lengths are equal with it.
  bool whole = false;
};

struct ReadingPlan {
  std::vector<std::vector<int32_t>> beginnings;  ///< read once each; the first is empty
  std::vector<ReadingBatch> batches;             ///< longest readings first, by beginning
};

/// How many texts go through the model together, at least one: each has `new_tokens` in the forward,
/// of which there may be `tokens` in all, and keys and values of `length` tokens, which bound memory.
int64_t most_texts(int64_t tokens, int64_t new_tokens, int64_t length);

/// `tokens`: most in one forward. `share`: whether common beginnings are read once, and contexts
/// together with what follows, where that is a single continuation.
ReadingPlan plan_readings(const std::vector<Reading>& readings, int64_t tokens, bool share);

}  // namespace reverie
