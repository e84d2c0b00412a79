#include "trainers/training/run_sampler.h"

#include "core/error.h"
#include "datasets/document_sampler.h"
#include "datasets/mix_sampler.h"
#include "datasets/stage_sampler.h"
#include "datasets/task_sampler.h"
#include "trainers/runs/explained_model.h"

namespace reverie {

namespace {

// What a decoder learns to write, in the base's own tokens.
void require_written(const Dataset& data, const ExplainedModel& model) {
  require(
      data.examples.has_value(),
      "$.model.type is explained, and $.data.examples.form is none, so that there is nothing to "
      "write: wanted \"recount\", \"facts\" or \"steps\", or a file of examples");
  const std::string& base = model.base_tokenizer_hash();
  require(base.empty() || !data.tokenizer || data.tokenizer->hash() == base,
          "the data are tokenised otherwise than those of the base {}: got the tokenizer {} (hash "
          "{}), wanted the base's (hash {}). Give $.data the text or task of the base, or "
          "\"tokenizer\": \"pretrained\" with the base's directory as \"tokenizer_files\"",
          model.options().base, data.tokenizer ? data.tokenizer->name() : "",
          data.tokenizer ? data.tokenizer->hash() : "", base);
}

}  // namespace

std::unique_ptr<Sampler> make_sampler(const Dataset& data, const LanguageModel& model,
                                      int64_t batch, uint64_t seed, int64_t windows) {
  const int64_t block = model.block_size() * windows;
  if (const auto* explained = dynamic_cast<const ExplainedModel*>(&model))
    require_written(data, *explained);
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
    if (data.stage_mix)
      return std::make_unique<MixedStageSampler>(data.train, *data.examples, data.train_steps,
                                                 *data.stage_mix, batch, seed);
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
  if (data.train_mix) {
    require(!model.carries_memory(),
            "$.data is a mix or shards ({}), whose rows are drawn from all its files, and "
            "$.model.memory carries state from one batch to the next: wanted one text or documents "
            "in one file, which are read in order, or a memory that is not carried (carry_state: "
            "false)",
            data.train_mix->in_words());
    return std::make_unique<MixSampler>(data.train, *data.train_mix, batch, block, seed);
  }
  require(
      !model.carries_memory() || !data.window_begin,
      "$.data.begin_windows is true, and $.model.memory carries state from one window to the next, "
      "so that a window goes on in the middle of a text: leave begin_windows out, or take a memory "
      "that is not carried (carry_state: false)");
  if (model.carries_memory() && data.documents)
    return std::make_unique<DocumentSampler>(data.train, *data.documents, batch, block, seed);
  if (model.carries_memory()) return std::make_unique<SequentialSampler>(data.train, batch, block);
  return std::make_unique<RandomWindowSampler>(data.train, batch, block, seed, data.train_rule());
}

}  // namespace reverie
