#pragma once
/// Which sequences of a batch a rank trains on, and how many at a time.

#include <vector>

#include "trainers/distributed/sum_tree.h"
#include "trainers/runs/experiment.h"

namespace reverie {

/// Rows of a batch that go through the model together.
struct BatchPart {
  int64_t first_row = 0, rows = 0;
};

/// Rank r of N has the rows r B / N to (r + 1) B / N of a batch of B (rounded down), in parts of at
/// most B / micro_batches, or of one row each where the sum is exact.
class BatchSplit {
 public:
  /// ConfigError when there are more ranks than sequences.
  BatchSplit(const ExperimentOptions& options, int rank, int ranks);
  const std::vector<BatchPart>& parts() const { return parts_; }  ///< this rank's
  /// Whether each part is a term of the gradient's sum (see GradientReducer).
  bool exact() const { return exact_; }
  /// Terms of the sum over the whole batch: its rows if it is exact, else ranks.
  const SumTree& tree() const { return tree_; }
  int64_t first_row(int rank) const { return first_rows_[size_t(rank)]; }
  int64_t batch() const { return first_rows_.back(); }

 private:
  bool exact_;
  std::vector<int64_t> first_rows_;  ///< by rank, and the end
  SumTree tree_;
  std::vector<BatchPart> parts_;
};

}  // namespace reverie
