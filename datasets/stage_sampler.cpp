#include "datasets/stage_sampler.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

constexpr uint64_t kStageStream = 1;  // apart from the order of examples, which has the seed itself

}  // namespace

MixedStageSampler::MixedStageSampler(TokenFile tokens, const ExampleLayout& layout, TokenFile steps,
                                     const StageMix& mix, int64_t batch_size, uint64_t seed)
    : RandomExampleSampler(tokens, layout, batch_size, seed),
      layout_(layout),
      steps_(std::move(steps)),
      mix_(mix),
      seed_(derive_seed(seed, kStageStream)) {
  const int64_t examples = tokens.count() / layout.length;
  if (mix.length < 1 || steps_.count() != examples * mix.length)
    throw DataError(fmt::format(
        "{} has {} tokens; wanted {} records of {}, one for each of {}: prepare the data again",
        steps_.path(), steps_.count(), examples, mix.length, tokens.path()));
}

Batch MixedStageSampler::rows(int64_t batch_index, int64_t first_row, int64_t row_count) const {
  Batch batch = RandomExampleSampler::rows(batch_index, first_row, row_count);
  const int64_t width = block_size();
  std::vector<int32_t> stageless(size_t(mix_.length));
  for (int64_t r = 0; r < row_count; ++r) {
    const int64_t row = first_row + r;
    const Philox4 drawn =
        philox(seed_, uint64_t(batch_index) * uint64_t(batch_size()) + uint64_t(row));
    if (uniform_from_bits(drawn.v[0]) >= mix_.share) continue;
    steps_.copy(window_start(batch_index, row) / layout_.length * mix_.length, stageless);
    const int64_t stages = steps_of_record(layout_, stageless) + 1,
                  stage = int64_t(uint64_t(drawn.v[1]) * uint64_t(stages) >> 32);
    auto record = record_at_stage(layout_, stageless, stage, mix_.rule);
    require(int64_t(record.size()) <= layout_.length,
            "an example takes {} tokens at stage {}, and records have {}: prepare the data again",
            record.size(), stage, layout_.length);
    record.resize(size_t(layout_.length), layout_.end());
    int32_t* tokens = batch.tokens.mutable_data<int32_t>() + r * width;
    int32_t* targets = batch.targets.mutable_data<int32_t>() + r * width;
    batch.target_count -= std::count_if(targets, targets + width, [](int32_t t) { return t >= 0; });
    std::copy_n(record.begin(), width, tokens);
    std::copy_n(record.begin() + 1, width, targets);
    batch.target_count +=
        keep_example_targets(layout_, {tokens, size_t(width)}, {targets, size_t(width)});
  }
  return batch;
}

}  // namespace reverie
