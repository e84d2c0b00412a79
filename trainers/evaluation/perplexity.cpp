#include "trainers/evaluation/perplexity.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

int64_t count_words(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = std::isspace(static_cast<unsigned char>(c)) != 0;
    words += !space && !inside;
    inside = !space;
  }
  return words;
}

}  // namespace

double PerplexityResult::nll() const {
  return nll_sum / double(predictions);
}
double PerplexityResult::perplexity() const {
  return std::exp(nll());
}
double PerplexityResult::word_perplexity() const {
  return std::exp(nll_sum / double(std::max<int64_t>(1, words)));
}
double PerplexityResult::bits_per_byte() const {
  return nll_sum / std::log(2.0) / double(std::max<int64_t>(1, bytes));
}

PerplexityResult perplexity(LanguageModel& model, const Tokenizer& tokenizer,
                            std::span<const int32_t> tokens, const PerplexityOptions& options,
                            const std::function<void(int64_t done, int64_t all)>& progress) {
  const int64_t extra = options.begin_of_text ? 1 : 0, all = int64_t(tokens.size());
  const int64_t window = options.window > 0 ? options.window : model.block_size() - extra;
  const int64_t stride = options.stride > 0 ? options.stride : window;
  // The last token of a window is only predicted, never read.
  require(window + extra >= 2 && window + extra - 1 <= model.block_size(),
          "a window of {} tokens{} does not fit the model, which reads at most {} (--window)",
          window, extra ? " and the begin-of-text token" : "", model.block_size());
  require(stride <= window, "the stride of {} tokens is longer than the window of {}", stride,
          window);
  require(all + extra >= 2, "a text of {} tokens has nothing to predict", all);

  const EvaluationMode mode(model);
  const int64_t windows = all <= window ? 1 : 1 + (all - window + stride - 1) / stride;
  const int64_t wanted = options.max_windows > 0 ? std::min(options.max_windows, windows) : windows;
  PerplexityResult result;
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
    result.nll_sum += model
                          .loss(Tensor::from<int32_t>({1, time}, read),
                                Tensor::from<int32_t>({1, time}, targets), 1.0)
                          .tensor()
                          .item();
    result.predictions += end - first;
    const std::string text = tokenizer.decode_continued(tokens.subspan(size_t(first), size_t(end - first)));
    result.bytes += int64_t(text.size());
    result.words += count_words(text);
    ++result.windows;
    if (progress) progress(i + 1, wanted);
  }
  return result;
}

}  // namespace reverie
