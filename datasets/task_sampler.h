#pragma once
/// Training batches of a generated task.

#include "datasets/sampler.h"

namespace reverie {

/// Documents drawn at random, uniform and independent. All rows of a batch are at the same window of
/// their documents: with n windows of block_size a document, batches n i .. n i + n - 1 are the windows
/// of as many documents as a batch has rows. Models with and without carried state get the same.
class TaskSampler final : public Sampler {
 public:
  /// UserError where the block_size does not fit the task.
  TaskSampler(TokenFile tokens, const TargetRule& rule, int64_t batch_size, int64_t block_size,
              uint64_t seed);
  int64_t window_start(int64_t batch_index, int64_t row) const override;
  bool begins_texts(int64_t batch_index) const override { return batch_index % blocks_ == 0; }

 private:
  uint64_t seed_;
  int64_t documents_, blocks_;  ///< windows of block_size in a document
};

}  // namespace reverie
