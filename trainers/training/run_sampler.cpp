#include "trainers/training/run_sampler.h"

#include "core/error.h"
#include "datasets/document_sampler.h"

namespace reverie {

std::unique_ptr<Sampler> make_sampler(const Dataset& data, const LanguageModel& model,
                                      int64_t batch, uint64_t seed) {
  const int64_t block = model.block_size();
  if (data.examples) {
    require(data.examples->length <= block + 1,
            "the longest example takes {} rows, but the model's block_size is {}: raise "
            "block_size",
            data.examples->length - 1, block);
    require(
        !model.carries_memory(),
        "$.data.examples are drawn at random, each a text of its own, and $.model.memory carries "
        "state from one batch to the next: wanted a text or documents that are read in order "
        "(leave $.data.examples out), or a memory that is not carried (carry_state: false)");
    return std::make_unique<RandomExampleSampler>(data.train, *data.examples, batch, seed);
  }
  if (model.carries_memory() && data.documents)
    return std::make_unique<DocumentSampler>(data.train, *data.documents, batch, block, seed);
  if (model.carries_memory()) return std::make_unique<SequentialSampler>(data.train, batch, block);
  return std::make_unique<RandomWindowSampler>(data.train, batch, block, seed);
}

}  // namespace reverie
