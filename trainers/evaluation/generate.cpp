#include "trainers/evaluation/generate.h"

#include <algorithm>
#include <functional>
#include <span>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/parallel.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

// A token after each row of logits [N, 1, V].
std::vector<int32_t> choose_each(const Tensor& logits, const GenerateOptions& options,
                                 std::vector<Draws>& draws) {
  const TokenChoice choice = options.choice();
  const Tensor host = logits.to(Device{}).contiguous();
  const int64_t count = host.size(0), vocabulary = host.size(-1);
  const int64_t known =
      options.vocabulary > 0 ? std::min(options.vocabulary, vocabulary) : vocabulary;
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  const auto each = [&]<class T>(const T* rows) {
    share_out(count, count > 1, [&](int64_t i) {
      tokens[size_t(i)] =
          choose_token(std::span(rows + i * vocabulary, size_t(known)), choice, draws[size_t(i)]);
    });
  };
  if (host.dtype() == DType::f64)
    each(host.data<double>());
  else
    each(host.data<float>());
  return tokens;
}

// What goes on into the next window of a text: its memory alone.
SequenceState next_window(const SequenceState& state) {
  SequenceState next;
  next.use_cache = true;
  next.memory = state.memory;
  return next;
}

// Latents that are made once, at the prompt's end, and put into the text when they arrive.
class ArrivingLatents {
 public:
  // None where `late` is not set.
  ArrivingLatents(LanguageModel& model, std::optional<int64_t> late) : late_(late) {
    if (!late) return;
    require(*late >= 0, "latents_late is {}, wanted 0 or more", *late);
    model_ = dynamic_cast<AugmentedModel*>(&model);
    require(model_ != nullptr,
            "this model makes no latents to insert into a text: wanted a "
            "model of type \"augmented\"");
    rows_ = model_->source().count();
  }
  // Of the context: the base's own; texts in training are shorter, for what stands behind them.
  int64_t block_size(const LanguageModel& model) const {
    return model_ ? model_->base().block_size() : model.block_size();
  }
  // Rows that they take, now or later.
  int64_t rows() const { return rows_; }
  // The context begins anew.
  void forget() {
    if (put_) rows_ = 0;
  }
  // After `written` tokens behind the prompt: final hidden states [N, 1, C] that predict the next
  // token, with latents if they arrive now. `hidden` [N, T, C] are those of the tokens that were
  // just read, `tokens` [N, T].
  Variable after(int64_t written, SequenceState& state, const Tensor& tokens,
                 const Variable& hidden) {
    const int64_t time = hidden.size(1);
    if (model_ && written == 0) latents_ = model_->latents_for(state, hidden, tokens);
    if (!model_ || written != *late_) return slice(hidden, 1, time - 1, time);
    put_ = true;
    return model_->insert(state, tokens.slice(1, time - 1, time).contiguous(), latents_);
  }

 private:
  std::optional<int64_t> late_;
  AugmentedModel* model_ = nullptr;
  int64_t rows_ = 0;
  bool put_ = false;
  Variable latents_;
};

void require_valid(const std::vector<int32_t>& prompt, int64_t samples,
                   const GenerateOptions& options) {
  require(!prompt.empty(), "generation needs a prompt of at least one token");
  require(samples >= 1, "{} samples were asked for, wanted 1 or more", samples);
  require(options.max_tokens >= 0, "max_tokens is {}, wanted 0 or more", options.max_tokens);
  require_valid(options.choice());
}

// Samples that are written side by side: their whole texts, and what each wrote until it ended.
class GrowingTexts {
 public:
  GrowingTexts(const std::vector<int32_t>& prompt, int64_t samples, const GenerateOptions& options)
      : options_(options),
        texts_(size_t(samples), prompt),
        written_(size_t(samples)),
        ended_(size_t(samples), false) {}

  // i32 [samples, end - first].
  Tensor between(size_t first, size_t end) const {
    std::vector<int32_t> pieces;
    for (const auto& text : texts_)
      pieces.insert(pieces.end(), text.begin() + std::ptrdiff_t(first),
                    text.begin() + std::ptrdiff_t(end));
    return Tensor::from<int32_t>({int64_t(texts_.size()), int64_t(end - first)}, pieces);
  }
  // One token more of each. DivergedError where one was drawn from logits that are not finite.
  void add(const std::vector<int32_t>& tokens,
           const std::function<void(int64_t, int32_t)>& on_token) {
    for (size_t n = 0; n < texts_.size(); ++n) {
      if (tokens[n] == kNoToken)
        throw DivergedError(
            fmt::format("the logits after {} tokens are not finite: the model's weights are broken",
                        texts_[n].size()));
      texts_[n].push_back(tokens[n]);
      ended_[n] = ended_[n] || std::find(options_.ends.begin(), options_.ends.end(), tokens[n]) !=
                                   options_.ends.end();
      if (ended_[n]) continue;
      written_[n].push_back(tokens[n]);
      if (on_token) on_token(int64_t(n), tokens[n]);
    }
  }
  bool all_ended() const {
    return std::all_of(ended_.begin(), ended_.end(), [](bool end) { return end; });
  }
  std::vector<std::vector<int32_t>> written() && { return std::move(written_); }

 private:
  const GenerateOptions& options_;
  std::vector<std::vector<int32_t>> texts_, written_;
  std::vector<bool> ended_;
};

}  // namespace

std::vector<int32_t> generate(LanguageModel& model, std::vector<int32_t> prompt,
                              const GenerateOptions& options,
                              const std::function<void(int32_t)>& on_token) {
  return generate_samples(model, prompt, 1, options,
                          [&](int64_t, int32_t token) {
                            if (on_token) on_token(token);
                          })
      .front();
}

std::vector<std::vector<int32_t>> generate_samples(
    LanguageModel& model, const std::vector<int32_t>& prompt, int64_t samples,
    const GenerateOptions& options, const std::function<void(int64_t, int32_t)>& on_token) {
  require_valid(prompt, samples, options);
  const EvaluationMode mode(model);
  ArrivingLatents latents(model, options.latents_late);
  const size_t block = size_t(latents.block_size(model));
  const auto room = [&] { return block - size_t(latents.rows()); };
  std::vector<Draws> draws;
  for (uint64_t i = 0; i < uint64_t(samples); ++i) draws.emplace_back(options.seed + i);
  GrowingTexts texts(prompt, samples, options);

  const bool carries = model.carries_memory() && model.incremental() && !options.latents_late;
  size_t length = prompt.size();
  size_t begin = carries ? 0 : length - std::min(length, room());  // of the context
  size_t seen = begin;  // tokens before this one are in the cache
  SequenceState state;
  state.use_cache = true;
  for (int64_t i = 0; i < options.max_tokens; ++i, ++length) {
    while (carries && length - begin > room()) {
      const size_t end = begin + room();
      if (end > seen) model.hidden(texts.between(seen, end), &state);
      begin = seen = end;
      state = next_window(state);
    }
    if (length - begin > room()) {
      latents.forget();
      begin = seen = length - std::max<size_t>(1, room() / 2);
      state = SequenceState();
      state.use_cache = true;
    }
    const size_t first = model.incremental() ? seen : begin;
    const Tensor tokens_read = texts.between(first, length);
    const Variable hidden = model.hidden(tokens_read, model.incremental() ? &state : nullptr);
    seen = length;
    const Variable logits = model.logits_of(latents.after(i, state, tokens_read, hidden));
    texts.add(choose_each(logits.tensor(), options, draws), on_token);
    if (texts.all_ended()) break;
  }
  return std::move(texts).written();
}

}  // namespace reverie
