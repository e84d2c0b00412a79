#include "trainers/training/run_sampler.h"

#include "core/error.h"
#include "datasets/document_sampler.h"
#include "datasets/task_sampler.h"

namespace reverie {

std::unique_ptr<Sampler> make_sampler(const Dataset& data, const LanguageModel& model,
                                      int64_t batch, uint64_t seed, int64_t windows) {
  const int64_t block = model.block_size() * windows;
  if (data.examples) {
    require(windows == 1,
            "train.windows is {}, but the data are examples, each a text of its own: set it to 1",
            windows);
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
  if (data.task) {
    data.task->require_block_size(model.block_size());
    const int64_t blocks = data.task->blocks_of(model.block_size());
    require(blocks % windows == 0,
            "train.windows is {}, and a document of the task {} is {} windows of the model's "
            "block_size {}: wanted a number that divides {}",
            windows, data.task->type, blocks, model.block_size(), blocks);
    return std::make_unique<TaskSampler>(data.train, data.train_rule(), batch, block, seed);
  }
  if (model.carries_memory() && data.documents)
    return std::make_unique<DocumentSampler>(data.train, *data.documents, batch, block, seed);
  if (model.carries_memory()) return std::make_unique<SequentialSampler>(data.train, batch, block);
  return std::make_unique<RandomWindowSampler>(data.train, batch, block, seed);
}

}  // namespace reverie
