#pragma once
/// Training rows of examples, some of them at another stage than their file's.

#include "datasets/example_stages.h"
#include "datasets/sampler.h"

namespace reverie {

/// The examples of RandomExampleSampler, in the same order. StageMix::share of the rows are written
/// at a stage that is drawn anew each time, from 0 to the example's number of steps. Row r of batch
/// i draws from Philox block i * batch_size + r, so that resumed runs and ranks draw the same.
class MixedStageSampler final : public RandomExampleSampler {
 public:
  /// `steps`: stageless records of the examples of `tokens`. DataError where they are not as many.
  MixedStageSampler(TokenFile tokens, const ExampleLayout& layout, TokenFile steps,
                    const StageMix& mix, int64_t batch_size, uint64_t seed);
  Batch rows(int64_t batch_index, int64_t first_row, int64_t row_count) const override;

 private:
  ExampleLayout layout_;
  TokenFile steps_;
  StageMix mix_;
  uint64_t seed_;
};

}  // namespace reverie
