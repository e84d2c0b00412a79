#include "trainers/training/run_sampler.h"

#include "core/error.h"

namespace reverie {

std::unique_ptr<Sampler> make_sampler(const Dataset& data, const LanguageModel& model,
                                      int64_t batch, uint64_t seed) {
  const int64_t block = model.block_size();
  if (data.examples) {
    require(data.examples->length <= block + 1,
            "the longest example takes {} rows, but the model's block_size is {}: raise "
            "block_size",
            data.examples->length - 1, block);
    require(!model.carries_memory(),
            "examples are separate texts, so no memory can be carried "
            "from one to the next: turn off the model's carried memory");
    return std::make_unique<RandomExampleSampler>(data.train, *data.examples, batch, seed);
  }
  if (model.carries_memory()) return std::make_unique<SequentialSampler>(data.train, batch, block);
  return std::make_unique<RandomWindowSampler>(data.train, batch, block, seed);
}

}  // namespace reverie
