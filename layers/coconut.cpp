// Coconut (Hao et al. 2024, "Training Large Language Models to Reason in a Continuous Latent
// Space", arXiv 2412.06769): a model whose input at every thought token is not that token's
// embedding but its own final hidden state at the row before. n thoughts take n + 1 passes; each
// reads the keys and values of those before, and gradients flow through all of them.

#include <algorithm>
#include <vector>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/pretrained/load.h"
#include "layers/pretrained/new_tokens.h"
#include "layers/pretrained/plain_model.h"
#include "layers/row_context.h"
#include "layers/targeted_columns.h"
#include "layers/thinking_model.h"
#include "layers/transformer.h"

namespace reverie {
namespace {

struct CoconutOptions final : Fieldset {
  std::string base;
  std::optional<int64_t> thought_token;
  bool rematerialize = false;
  NewTokenOptions vocabulary;
  void fields(Fields& f) override {
    f.path("base", base,
           "the model to train: a Hugging Face directory, a .gguf file or a llama2.c .bin file, "
           "e.g. the export of a run on whole chains of thought");
    f.integer_or_auto("thought_token", thought_token, kNonNegative,
                      "the token that stands for a thought; auto: the vocabulary's last token "
                      "(of vocab_size, where it is given), as in data of examples");
    f.boolean("rematerialize", rematerialize,
              "recompute blocks in the backward pass instead of keeping their activations");
    vocabulary.describe(f);
  }
};

class Coconut final : public LanguageModel, public AroundPlainModel, public ThinkingModel {
 public:
  Coconut(const CoconutOptions& o, const Build& build) {
    PretrainedOptions options;
    options.dtype = build.dtype;
    options.device = build.device;
    options.frozen = false;
    options.rematerialize = o.rematerialize;
    options.new_tokens = o.vocabulary.asked();
    LoadedModel loaded = load_pretrained(o.base, options);
    auto* transformer = dynamic_cast<Transformer*>(loaded.model.get());
    require(transformer && !transformer->has_memory(),
            "{} is not a plain transformer, which thoughts need: name a base without a memory "
            "module or latents",
            o.base);
    component_ = loaded.component;
    ends_ = loaded.ends;
    base_ = static_cast<Transformer*>(&adopt("", std::move(loaded.model)));
    const int64_t tokens = o.vocabulary.vocab_size.value_or(base_->vocabulary_size());
    const int64_t token = o.thought_token.value_or(tokens - 1);
    require(token < base_->vocabulary_size(),
            "thought_token {} is outside the vocabulary of {}, which has {} tokens", token, o.base,
            base_->vocabulary_size());
    thought_ = int32_t(token);
  }
  const Transformer& plain_model() const override { return *base_; }
  const Component& plain_component() const override { return component_; }
  int64_t vocabulary_size() const override { return base_->vocabulary_size(); }
  int64_t block_size() const override { return base_->block_size(); }
  const Variable& head() const override { return base_->head(); }
  double logit_softcap() const override { return base_->logit_softcap(); }
  bool incremental() const override { return true; }
  bool carries_memory() const override { return false; }
  std::vector<int32_t> ends_of_text() const override { return ends_; }
  int32_t thought_token() const override { return thought_; }
  double forward_flops_per_token(int64_t length) const override {
    return base_->forward_flops_per_token(length);
  }
  Variable hidden(const Tensor& tokens, SequenceState* state) override;
  // No row behind a batch's last target is read.
  Variable loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                SequenceState* state) override;

 private:
  static constexpr const char* kLast = "last_hidden";  // carried from piece to piece

  bool thinks(const Tensor& host, int64_t column) const {
    for (int64_t b = 0; b < host.size(0); ++b)
      if (host.data<int32_t>()[b * host.size(1) + column] == thought_) return true;
    return false;
  }
  bool thinks(const Tensor& host) const {
    const int32_t* id = host.data<int32_t>();
    return std::find(id, id + host.numel(), thought_) != id + host.numel();
  }
  Variable one_text(const Tensor& tokens);
  template <class Read>
  Variable pass_by_pass(const Tensor& host, Variable before, const Read& read);
  Variable thought_rows(const Tensor& host, const Variable& rows, const Variable& before) const;

  Transformer* base_;
  Component component_;  // of the base
  std::vector<int32_t> ends_;
  int32_t thought_;
};

// Rows [B, t, C] of tokens, the first of them replaced by `before` [B, 1, C] in those texts that
// think there.
Variable Coconut::thought_rows(const Tensor& host, const Variable& rows,
                               const Variable& before) const {
  const int64_t batch = host.size(0), time = host.size(1);
  std::vector<Variable> first;
  for (int64_t b = 0; b < batch; ++b)
    first.push_back(host.data<int32_t>()[b * time] == thought_
                        ? slice(before, 0, b, b + 1)
                        : slice(slice(rows, 0, b, b + 1), 1, 0, 1));
  const Variable thoughts = concat(first, 0);
  return time == 1 ? thoughts : concat({thoughts, slice(rows, 1, 1, time)}, 1);
}

// A pass ends before the next column where a text thinks: that row needs this pass's last state.
// `before` [B, 1, C]: the state before the first column, undefined where there is none; a thought
// there is its token's embedding. `read`: rows [B, t, C] -> their final hidden states, behind all
// that it read before.
template <class Read>
Variable Coconut::pass_by_pass(const Tensor& host, Variable before, const Read& read) {
  const int64_t time = host.size(1);
  std::vector<Variable> passes;
  for (int64_t begin = 0, end; begin < time; begin = end) {
    for (end = begin + 1; end < time && !thinks(host, end);) ++end;
    const Tensor piece = host.slice(1, begin, end).contiguous();
    Variable rows = base_->token_rows(piece);
    if (before) rows = thought_rows(piece, rows, before);
    passes.push_back(read(rows));
    before = slice(passes.back(), 1, end - begin - 1, end - begin);
  }
  return concat(passes, 1);
}

Variable Coconut::one_text(const Tensor& tokens) {
  if (!thinks(tokens)) return base_->hidden(tokens, nullptr);
  KeyValues known;
  return pass_by_pass(tokens, {}, [&](const Variable& rows) {
    GrowingPrefixContext context(known, rows.size(1));
    return base_->blocks().forward(base_->placed(rows, context.positions()), context);
  });
}

Variable Coconut::hidden(const Tensor& tokens, SequenceState* state) {
  require(tokens.rank() == 2 && tokens.dtype() == DType::i32,
          "a model takes tokens i32 [B, T], got {}", tokens);
  const Tensor host = tokens.to(Device{}).contiguous();
  const int64_t batch = host.size(0), time = host.size(1);
  if (!state || !state->use_cache) {
    if (!thinks(host)) return base_->hidden(tokens, nullptr);
    require(time <= block_size(), "the sequence reaches {} tokens, the model's block_size is {}",
            time, block_size());
    // Texts think at different places: together they would take a pass for each of these.
    std::vector<Variable> texts;
    for (int64_t b = 0; b < batch; ++b)
      texts.push_back(one_text(host.slice(0, b, b + 1).contiguous()));
    return concat(texts, 0);
  }
  Variable& last = state->memory.values[kLast];
  Variable hidden;
  if (!thinks(host)) {
    hidden = base_->hidden(tokens, state);
  } else {
    require(state->position + time <= block_size(),
            "the sequence reaches {} tokens, the model's block_size is {}", state->position + time,
            block_size());
    state->layers.resize(size_t(base_->shape().layers));
    hidden = pass_by_pass(host, last, [&](const Variable& rows) {
      CacheContext context(*state, rows.size(1));
      const Variable x = base_->blocks().forward(base_->placed(rows, context.positions()), context);
      state->position += rows.size(1);
      return x;
    });
  }
  last = slice(hidden, 1, time - 1, time);
  return hidden;
}

Variable Coconut::loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                       SequenceState* state) {
  const Columns read = up_to_last_target(tokens, targets);
  return LanguageModel::loss(read.tokens, read.targets, weight_per_target, state);
}

const bool coconut_registered = ModelRegistry::instance().add<Coconut, CoconutOptions>(
    "coconut",
    "a model whose own last hidden states are its input at thought tokens (Coconut, Hao et al. "
    "2024)");

}  // namespace
}  // namespace reverie
