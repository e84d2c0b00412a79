#include "trainers/generation/generate.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/parallel.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/generation/arriving_latents.h"

namespace reverie {
namespace {

// A token after each of the texts, from its row of logits [N, 1, V].
std::vector<int32_t> choose_each(const Tensor& logits, const GenerateOptions& options,
                                 const std::vector<std::vector<int32_t>>& texts,
                                 std::vector<Draws>& draws) {
  const TokenChoice choice = options.choice();
  const Tensor host = logits.to(Device{}).contiguous();
  const int64_t count = host.size(0), vocabulary = host.size(-1);
  const int64_t known =
      options.vocabulary > 0 ? std::min(options.vocabulary, vocabulary) : vocabulary;
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  const auto each = [&]<class T>(const T* rows) {
    share_out(count, count > 1, [&](int64_t i) {
      tokens[size_t(i)] = choose_token(std::span(rows + i * vocabulary, size_t(known)), choice,
                                       draws[size_t(i)], texts[size_t(i)]);
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

// The suppliers that the options name, if need be of the model's own latents.
ArrivingLatents arriving_latents(LanguageModel& model, const GenerateOptions& options) {
  require(options.latents_every == 0 || options.latents_late,
          "latents_every is of the model's own latents: wanted latents_late beside it");
  if (!options.latents_late) return ArrivingLatents(options.latents);
  require(options.latents.empty(), "latents_late is of the model's own latents: name these alone");
  auto* augmented = dynamic_cast<AugmentedModel*>(&model);
  require(augmented != nullptr,
          "this model makes no latents to insert into a text: wanted a "
          "model of type \"augmented\"");
  std::vector<std::shared_ptr<LatentSupplier>> own{
      std::make_shared<BlockingLatents>(*augmented, *options.latents_late, options.latents_every)};
  return ArrivingLatents(std::move(own));
}

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

  const std::vector<std::vector<int32_t>>& texts() const { return texts_; }
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

// The rows that the next token is predicted from, and the state that holds them.
class TextContext {
 public:
  TextContext(LanguageModel& model, const GrowingTexts& texts, ArrivingLatents latents,
              size_t prompt)
      : model_(model),
        texts_(texts),
        latents_(std::move(latents)),
        block_(size_t(latents_.block_size(model))),
        carries_(model.carries_memory() && model.incremental() && latents_.none()) {
    begin_at(carries_ ? 0 : prompt - std::min(prompt, room()));
  }

  // After `written` tokens behind the prompt, which make `length` in all: final hidden states
  // [N, 1, C] that predict the next one.
  Variable read(int64_t written, size_t length) {
    if (carries_) carry_on(length);
    if (latents_.renewal().due(written)) return renew(length);
    if (length - begin_ > room()) {
      latents_.forget();
      begin_at(length - std::max<size_t>(1, room() / 2));
    }
    Tensor tokens;
    Variable hidden = read_new(length, tokens);
    if (latents_.none()) return last_row(hidden);
    if (written == 0 && latents_.begin(state_, hidden, tokens) && begin_ > 0) {
      begin_at(length - std::min(length, block_));
      hidden = read_new(length, tokens);
    }
    if (written == 0 && latents_.renewal().every > 0)
      without_latents_ = TextWithoutLatents(state_, hidden, tokens);
    const size_t rows = size_t(latents_.collect(written));
    if (rows == 0) return last_row(hidden);
    if (length - begin_ + rows > room()) {
      latents_.forget();
      begin_at(length - std::max<size_t>(1, (block_ - rows) / 2));
      read_new(length, tokens);
    }
    return latents_.insert(written, state_, texts_.between(length - 1, length));
  }

 private:
  size_t room() const { return block_ - size_t(latents_.rows()); }
  static Variable last_row(const Variable& rows) {
    return slice(rows, 1, rows.size(1) - 1, rows.size(1));
  }
  void begin_at(size_t first) {
    begin_ = seen_ = first;
    state_ = SequenceState();
    state_.use_cache = true;
    without_latents_ = TextWithoutLatents();
  }
  // New latents in place of the old ones, made from the text without its last `late` tokens.
  Variable renew(size_t length) {
    const size_t late = size_t(latents_.renewal().late), made = length - late,
                 rows = size_t(latents_.renewed_rows());
    if (length - begin_ + rows > block_ || made <= begin_)
      begin_at(made - std::max<size_t>(1, (block_ - rows - late) / 2));
    const size_t known = begin_ + size_t(without_latents_.length());
    seen_ = length;
    return latents_.renew(without_latents_, texts_.between(known, made),
                          late > 0 ? texts_.between(made, length) : Tensor(), state_);
  }
  // Memory goes on in consecutive windows.
  void carry_on(size_t length) {
    while (length - begin_ > room()) {
      const size_t end = begin_ + room();
      if (end > seen_) model_.hidden(texts_.between(seen_, end), &state_);
      begin_ = seen_ = end;
      state_ = next_window(state_);
    }
  }
  // Reads what is not in the cache yet: `tokens`; their final hidden states.
  Variable read_new(size_t length, Tensor& tokens) {
    tokens = texts_.between(model_.incremental() ? seen_ : begin_, length);
    seen_ = length;
    return model_.hidden(tokens, model_.incremental() ? &state_ : nullptr);
  }

  LanguageModel& model_;
  const GrowingTexts& texts_;
  ArrivingLatents latents_;
  size_t block_;
  bool carries_;
  size_t begin_ = 0;  // of the context
  size_t seen_ = 0;   // tokens before this one are in the cache
  SequenceState state_;
  TextWithoutLatents without_latents_;  // the context as it was when latents were made last
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
  // A model in eval mode is left alone: another thread may be reading it.
  const NoGrad no_grad;
  std::optional<EvaluationMode> mode;
  if (model.training()) mode.emplace(model);
  std::vector<Draws> draws;
  for (uint64_t i = 0; i < uint64_t(samples); ++i) draws.emplace_back(options.seed + i);
  GrowingTexts texts(prompt, samples, options);
  TextContext context(model, texts, arriving_latents(model, options), prompt.size());
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const Variable logits = model.logits_of(context.read(i, prompt.size() + size_t(i)));
    texts.add(choose_each(logits.tensor(), options, texts.texts(), draws), on_token);
    if (texts.all_ended()) break;
  }
  return std::move(texts).written();
}

}  // namespace reverie
