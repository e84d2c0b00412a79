#include "trainers/benchmarks/text_reader.h"

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/forked_state.h"

namespace reverie {

void ReadBatch::keep(const std::vector<int64_t>& of) {
  state = forked_state(state, of);
  if (without_latents) without_latents = without_latents->chosen(of);
}

TextReader::TextReader(LanguageModel& model, const ReaderOptions& options)
    : model_(model), options_(options) {
  require(options.latents_every >= 0, "latents_every is {}, wanted 0 (once) or more",
          options.latents_every);
  require(options.latents_every == 0 || options.latents,
          "latents that are made anew every {} tokens were asked for, but no latents: wanted both, "
          "or neither",
          options.latents_every);
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

// Each text gets the latents of the next one in the batch. A single text, that of reading `alone`,
// gets those of the next reading.
Variable TextReader::latents_of_others(const std::vector<Reading>& readings, size_t alone,
                                       const Variable& own) {
  const int64_t count = own.shape()[0];
  if (count > 1) return concat({slice(own, 0, 1, count), slice(own, 0, 0, 1)}, 0);
  require(readings.size() > 1, "latents can be shuffled only between texts, got one text");
  const std::vector<int32_t>& other = readings[(alone + 1) % readings.size()].context;
  SequenceState state;
  state.use_cache = true;
  const Tensor tokens = Tensor::from<int32_t>({1, int64_t(other.size())}, other);
  const Variable states = model_.hidden(tokens, &state);
  return augmented_->latents_for(state, states, tokens);
}

SequenceState TextReader::behind_beginning(const ReadingPlan& plan, const ReadingBatch& batch,
                                           int64_t count, bool audited) {
  const std::vector<int32_t>& beginning = plan.beginnings[batch.beginning];
  if (beginning.empty()) {
    SequenceState fresh;
    fresh.use_cache = true;
    return fresh;
  }
  if (known_ != batch.beginning) {
    known_.reset();
    beginning_ = SequenceState();
    beginning_.use_cache = true;
    hidden(Tensor::from<int32_t>({1, int64_t(beginning.size())}, beginning), &beginning_, audited);
    known_ = batch.beginning;
  }
  return forked_state(beginning_, std::vector<int64_t>(size_t(count), 0));
}

Variable TextReader::read_behind(const ReadingPlan& plan, const ReadingBatch& batch,
                                 const Tensor& tokens, bool audited) {
  if (plan.beginnings[batch.beginning].empty()) return hidden(tokens, nullptr, audited);
  SequenceState state = behind_beginning(plan, batch, tokens.size(0), audited);
  return hidden(tokens, &state, audited);
}

ReadBatch TextReader::read(const std::vector<Reading>& readings, const ReadingPlan& plan,
                           const ReadingBatch& batch, bool audited) {
  if (batch.whole) throw InternalError("a batch of contexts that go with their continuations");
  const size_t known = plan.beginnings[batch.beginning].size();
  const int64_t count = int64_t(batch.readings.size());
  ReadBatch out;
  out.state = behind_beginning(plan, batch, count, audited);
  std::vector<int32_t> tokens;
  for (const size_t i : batch.readings)
    tokens.insert(tokens.end(), readings[i].context.begin() + std::ptrdiff_t(known),
                  readings[i].context.end());
  const int64_t time = int64_t(tokens.size()) / count;
  const Tensor read = Tensor::from<int32_t>({count, time}, tokens);
  const Variable states = hidden(read, &out.state, audited);
  if (augmented_) {
    Variable latents = augmented_->latents_for(out.state, states, read);
    if (options_.shuffled) latents = latents_of_others(readings, batch.readings[0], latents);
    if (options_.latents_every > 0)
      out.without_latents = TextWithoutLatents(out.state, states, read);
    out.last = augmented_->insert(out.state, read.slice(1, time - 1, time).contiguous(), latents);
  } else {
    out.last = slice(states, 1, time - 1, time);
  }
  return out;
}

void TextReader::renew(ReadBatch& batch, const Tensor& written,
                       const std::vector<Reading>& readings, size_t alone) {
  if (!batch.without_latents) throw InternalError("a batch whose latents are made once");
  TextWithoutLatents& text = *batch.without_latents;
  text.read(*augmented_, written);
  Variable latents = text.latents(*augmented_);
  if (options_.shuffled) latents = latents_of_others(readings, alone, latents);
  batch.last = text.continued(*augmented_, {}, latents, batch.state);
}

}  // namespace reverie
