#include "trainers/evaluation/perplexity.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/error.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

// Python's \s: the White_Space property, and the four separators of ASCII.
bool is_white_space(uint32_t character) {
  return character_class(character) == CharacterClass::space ||
         (character >= 0x1c && character <= 0x1f);
}

// The bytes of a text that each of its tokens stands for. The space that some vocabularies put
// before a text belongs to none of them. Where the vocabulary altered the text, all bytes count in
// proportion.
class BytesOfTokens {
 public:
  BytesOfTokens(const Tokenizer& tokenizer, std::span<const int32_t> tokens, size_t text_bytes)
      : text_bytes_(double(text_bytes)) {
    ends_.reserve(tokens.size() + 1);
    ends_.push_back(0);
    for (size_t i = 0; i < tokens.size(); ++i)
      ends_.push_back(ends_.back() +
                      int64_t(tokenizer.decode_continued(tokens.subspan(i, 1)).size()));
    before_ = ends_.back() - int64_t(tokenizer.decode(tokens).size());
  }
  // Of tokens begin .. end - 1.
  double of(int64_t begin, int64_t end) const {
    const auto at = [&](int64_t i) { return std::max(before_, ends_[size_t(i)]); };
    const int64_t written = ends_.back() - before_;
    return written > 0 ? double(at(end) - at(begin)) * text_bytes_ / double(written) : 0;
  }

 private:
  double text_bytes_;
  std::vector<int64_t> ends_;  // bytes written up to each token
  int64_t before_ = 0;         // bytes put before the text
};

}  // namespace

int64_t count_words(std::string_view text) {
  int64_t words = 1;
  bool inside = false;  // a run of white space
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_code_point(text, at);
    const bool space = point.bytes > 0 && is_white_space(point.value);
    words += space && !inside;
    inside = space;
    at += size_t(std::max(point.bytes, 1));
  }
  return words;
}

double PerplexityResult::nll() const {
  return nll_sum / double(predictions);
}
double PerplexityResult::perplexity() const {
  return std::exp(nll());
}
double PerplexityResult::word_perplexity() const {
  return std::exp(nll_sum / words);
}
double PerplexityResult::bits_per_byte() const {
  return nll_sum / std::log(2.0) / bytes;
}

PerplexityResult perplexity(LanguageModel& model, const Tokenizer& tokenizer, std::string_view text,
                            const PerplexityOptions& options,
                            const std::function<void(int64_t done, int64_t all)>& progress) {
  const std::vector<int32_t> tokens = tokenizer.encode(text);
  tokenizer.require_below(tokens, model.vocabulary_size());
  const int64_t extra = options.begin_of_text ? 1 : 0, all = int64_t(tokens.size());
  const int64_t window = options.window > 0 ? options.window : model.block_size() - extra;
  const int64_t stride = options.stride > 0 ? options.stride : window;
  // The last token of a window is only predicted, never read.
  require(window + extra >= 2 && window + extra - 1 <= model.block_size(),
          "a window of {} tokens{} does not fit the model, which reads at most {}: lower --window",
          window, extra ? " and the begin-of-text token" : "", model.block_size());
  require(stride <= window,
          "the stride of {} tokens is longer than the window of {}: lower "
          "--stride",
          stride, window);
  require(all + extra >= 2, "a text of {} tokens has no token to predict: give a longer text", all);

  const EvaluationMode mode(model);
  const int64_t windows = all <= window ? 1 : 1 + (all - window + stride - 1) / stride;
  const int64_t wanted = options.max_windows > 0 ? std::min(options.max_windows, windows) : windows;
  PerplexityResult result;
  result.tokens = all;
  result.window = window;
  result.stride = stride;
  const BytesOfTokens bytes(tokenizer, tokens, text.size());
  int64_t scored = 0;  // tokens before this one are done
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t begin = i * stride, end = std::min(all, begin + window);
    // The first token that this window predicts; it needs something before it.
    const int64_t first = std::max(scored, begin + 1 - extra);
    scored = end;
    if (first >= end) continue;
    std::vector<int32_t> read;
    if (options.begin_of_text) read.push_back(*options.begin_of_text);
    read.insert(read.end(), tokens.begin() + begin, tokens.begin() + end - 1);
    std::vector<int32_t> targets(read.size(), -1);
    for (int64_t t = first; t < end; ++t)
      targets[size_t(t - begin - 1 + extra)] = tokens[size_t(t)];
    const int64_t time = int64_t(read.size());
    const Tensor tokens_read = Tensor::from<int32_t>({1, time}, read),
                 wanted_tokens = Tensor::from<int32_t>({1, time}, targets);
    const bool audited = options.audit && options.audit->audits(i, wanted);
    const double loss =
        loss_of_every_token(model, tokens_read, wanted_tokens, audited ? options.audit : nullptr);
    require_finite(loss, fmt::format("the loss of window {} (tokens {} to {})", i + 1, begin, end));
    result.nll_sum += loss;
    if (options.each_window) options.each_window(tokens_read, wanted_tokens);
    result.predictions += end - first;
    result.bytes += bytes.of(first, end);
    ++result.windows;
    if (progress) progress(i + 1, wanted);
  }
  const double covered = bytes.of(0, scored);
  const size_t read = scored == all ? text.size() : size_t(std::llround(covered));
  result.words = double(count_words(text.substr(0, read))) * (result.bytes / covered);
  return result;
}

}  // namespace reverie
