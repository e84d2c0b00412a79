#include "trainers/benchmarks/text_reader.h"

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/forked_state.h"

namespace reverie {

TextReader::TextReader(LanguageModel& model, const ReaderOptions& options)
    : model_(model), options_(options) {
  if (!options.latents) return;
  augmented_ = dynamic_cast<AugmentedModel*>(&model);
  require(augmented_ != nullptr,
          "this model makes no latents: leave --latents out, or name a run of type \"augmented\"");
}

int64_t TextReader::room() const {
  auto* augmented = dynamic_cast<AugmentedModel*>(&model_);
  if (!augmented) return model_.block_size();
  return augmented->base().block_size() - (augmented_ ? augmented->source().count() : 0);
}

Variable TextReader::hidden(const Tensor& tokens, SequenceState* state, bool audited) {
  if (audited && options_.audit) return options_.audit->hidden(model_, tokens, state);
  return model_.hidden(tokens, state);
}

ReadBatch TextReader::read(const std::vector<Reading>& readings, const ReadingPlan& plan,
                           const ReadingBatch& batch, bool audited) {
  const std::vector<int32_t>& beginning = plan.beginnings[batch.beginning];
  ReadBatch out;
  out.state.use_cache = true;
  if (!beginning.empty()) {
    if (known_ != batch.beginning) {
      known_.reset();
      beginning_ = SequenceState();
      beginning_.use_cache = true;
      hidden(Tensor::from<int32_t>({1, int64_t(beginning.size())}, beginning), &beginning_,
             audited);
      known_ = batch.beginning;
    }
    out.state = forked_state(beginning_, std::vector<int64_t>(batch.readings.size(), 0));
  }
  std::vector<int32_t> tokens;
  for (const size_t i : batch.readings)
    tokens.insert(tokens.end(), readings[i].context.begin() + std::ptrdiff_t(beginning.size()),
                  readings[i].context.end());
  const int64_t count = int64_t(batch.readings.size()), time = int64_t(tokens.size()) / count;
  const Tensor read = Tensor::from<int32_t>({count, time}, tokens);
  const Variable states = hidden(read, &out.state, audited);
  if (augmented_) {
    const Variable latents = augmented_->latents_for(out.state, states, read);
    out.last = augmented_->insert(out.state, read.slice(1, time - 1, time).contiguous(), latents);
  } else {
    out.last = slice(states, 1, time - 1, time);
  }
  return out;
}

}  // namespace reverie
