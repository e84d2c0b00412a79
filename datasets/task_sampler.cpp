#include "datasets/task_sampler.h"

#include "core/random.h"

namespace reverie {

TaskSampler::TaskSampler(TokenFile tokens, const TargetRule& rule, int64_t batch_size,
                         int64_t block_size, uint64_t seed)
    : Sampler(std::move(tokens), batch_size, block_size, rule), seed_(seed) {
  const TaskLayout& task = rule.task.value();
  task.require_block_size(block_size);
  documents_ = task.documents_in(this->tokens());
  blocks_ = task.blocks_of(block_size);
}

int64_t TaskSampler::window_start(int64_t batch_index, int64_t row) const {
  const auto draw = uint64_t(batch_index / blocks_) * uint64_t(batch_size()) + uint64_t(row);
  const auto document = int64_t(philox_below(seed_, draw, uint64_t(documents_)));
  return (document * blocks_ + batch_index % blocks_) * block_size();
}

}  // namespace reverie
