#include "trainers/benchmarks/greedy_texts.h"

#include <fmt/format.h>

#include <span>

#include "core/error.h"
#include "core/parallel.h"
#include "core/signals.h"
#include "trainers/generation/ending_text.h"
#include "trainers/generation/generate.h"

namespace reverie {
namespace {

// The likeliest token of each row of logits [N, 1, V], among the tokenizer's.
std::vector<int32_t> likeliest_tokens(const Tensor& logits, int64_t known) {
  const Tensor host = logits.to(Device{}).contiguous();
  const int64_t count = host.size(0), vocabulary = host.size(-1);
  const TokenChoice greedy{.temperature = 0};
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  const auto each = [&]<class T>(const T* rows) {
    share_out(count, count > 1, [&](int64_t i) {
      Draws none(0);
      tokens[size_t(i)] =
          choose_token(std::span(rows + i * vocabulary, size_t(known)), greedy, none);
    });
  };
  if (host.dtype() == DType::f64)
    each(host.data<double>());
  else
    each(host.data<float>());
  return tokens;
}

// A text as it grows.
class Writing {
 public:
  explicit Writing(const WritingOptions& o)
      : ending_(o.tokenizer, {o.max_tokens, o.ends, o.stop}) {}
  // Whether the text goes on.
  bool add(int32_t token) {
    text_ += ending_.add(token);
    return !ending_.ended();
  }
  WrittenText finish() const { return {text_, ending_.tokens()}; }

 private:
  EndingText ending_;
  std::string text_;
};

WrittenText write_alone(LanguageModel& model, const std::vector<int32_t>& prompt,
                        const WritingOptions& options) {
  GenerateOptions generation;
  generation.temperature = 0;
  generation.max_tokens = options.max_tokens;
  generation.ends = options.ends;
  generation.vocabulary = options.tokenizer.vocabulary_size();
  Writing writing(options);
  bool goes_on = true;
  for (const int32_t token : generate(model, prompt, generation))
    if (goes_on) goes_on = writing.add(token);
  return writing.finish();
}

// A text in tokens as it grows.
class TokenWriting {
 public:
  explicit TokenWriting(const TokenWritingOptions& options) : options_(options) {}
  bool add(int32_t token) {
    tokens_.push_back(token);
    const bool ended =
        std::find(options_.ends.begin(), options_.ends.end(), token) != options_.ends.end();
    return !ended && int64_t(tokens_.size()) < options_.max_tokens;
  }
  const std::vector<int32_t>& tokens() const { return tokens_; }

 private:
  const TokenWritingOptions& options_;
  std::vector<int32_t> tokens_;
};

template <class T>
std::vector<T> chosen_of(const std::vector<T>& all, const std::vector<int64_t>& of) {
  std::vector<T> chosen;
  for (const int64_t i : of) chosen.push_back(all[size_t(i)]);
  return chosen;
}

// Writes a batch of texts side by side; writings[b].add(token) says whether text b goes on.
template <class OneText>
void write_side_by_side(TextReader& reader, const std::vector<Reading>& prompts,
                        const ReadingBatch& batch, ReadBatch read, int64_t known,
                        std::vector<OneText>& writings) {
  LanguageModel& model = reader.model();
  const int64_t every = reader.options().latents_every;
  std::vector<size_t> rows(writings.size());  // the text that each row of the state holds
  for (size_t b = 0; b < rows.size(); ++b) rows[b] = b;
  std::vector<bool> goes_on(rows.size(), true);
  // Tokens of each row behind the text that its latents were made of.
  std::vector<std::vector<int32_t>> behind(rows.size());
  for (int64_t written = 1;; ++written) {
    stop_if_requested();
    std::vector<int32_t> tokens = likeliest_tokens(model.logits_of(read.last).tensor(), known);
    std::vector<int64_t> kept;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (tokens[r] == kNoToken)
        throw DivergedError(
            "the logits after a prompt are not finite: the model's weights are broken");
      if (goes_on[rows[r]]) goes_on[rows[r]] = writings[rows[r]].add(tokens[r]);
      if (goes_on[rows[r]]) kept.push_back(int64_t(r));
    }
    if (kept.empty()) break;
    if (2 * kept.size() <= rows.size()) {
      read.keep(kept);
      rows = chosen_of(rows, kept);
      tokens = chosen_of(tokens, kept);
      behind = chosen_of(behind, kept);
    }
    const auto count = int64_t(rows.size());
    if (every > 0)
      for (size_t r = 0; r < rows.size(); ++r) behind[r].push_back(tokens[r]);
    if (every == 0 || written % every != 0) {
      read.last = model.hidden(Tensor::from<int32_t>({count, 1}, tokens), &read.state);
      continue;
    }
    std::vector<int32_t> all;
    for (std::vector<int32_t>& of_row : behind) {
      all.insert(all.end(), of_row.begin(), of_row.end());
      of_row.clear();
    }
    reader.renew(read, Tensor::from<int32_t>({count, every}, all), prompts,
                 batch.readings[rows[0]]);
  }
}

}  // namespace

std::vector<WrittenText> write_texts(TextReader& reader, const std::vector<Reading>& prompts,
                                     const ReadingPlan& plan, const ReadingBatch& batch,
                                     const WritingOptions& options, bool audited) {
  std::vector<WrittenText> out(batch.readings.size());
  if (!reader.caches()) {
    for (size_t b = 0; b < out.size(); ++b)
      out[b] = write_alone(reader.model(), prompts[batch.readings[b]].context, options);
    return out;
  }
  const int64_t known =
      std::min<int64_t>(options.tokenizer.vocabulary_size(), reader.model().vocabulary_size());
  std::vector<Writing> writings(out.size(), Writing(options));
  write_side_by_side(reader, prompts, batch, reader.read(prompts, plan, batch, audited), known,
                     writings);
  for (size_t b = 0; b < out.size(); ++b) out[b] = writings[b].finish();
  return out;
}

std::vector<std::vector<int32_t>> write_tokens(TextReader& reader,
                                               const std::vector<Reading>& prompts,
                                               const ReadingPlan& plan, const ReadingBatch& batch,
                                               const TokenWritingOptions& options, bool audited) {
  require(reader.caches(), "tokens are written by models with a cache alone");
  std::vector<TokenWriting> writings(batch.readings.size(), TokenWriting(options));
  write_side_by_side(reader, prompts, batch, reader.read(prompts, plan, batch, audited),
                     options.vocabulary, writings);
  std::vector<std::vector<int32_t>> out;
  for (const TokenWriting& w : writings) out.push_back(w.tokens());
  return out;
}

}  // namespace reverie
