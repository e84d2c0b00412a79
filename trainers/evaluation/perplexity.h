#pragma once
/// Perplexity of a text: per token, per word and per byte, over windows cut one after another.

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"

namespace reverie {

class ForwardAudit;

struct PerplexityOptions {
  int64_t window = 0;       ///< tokens of text in one forward; 0: as many as the model takes
  int64_t stride = 0;       ///< tokens from one window to the next; 0: the window (no overlap)
  int64_t max_windows = 0;  ///< 0: the whole text
  std::optional<int32_t> begin_of_text = {};  ///< put before every window, for models that want it
  /// Called with every window as it was scored: i32 [1, T], targets -1 where nothing was predicted.
  std::function<void(const Tensor& tokens, const Tensor& targets)> each_window = {};
  ForwardAudit* audit = nullptr;  ///< of some windows
};

struct PerplexityResult {
  int64_t tokens = 0, windows = 0, predictions = 0;  ///< tokens: of the whole text
  int64_t window = 0, stride = 0;                    ///< as used, where the options left them open
  double nll_sum = 0;                                ///< nats, over all predictions
  /// Bytes and words of the text that was predicted. A text that was predicted as a whole has its
  /// own counts, whatever its tokens are. Where some tokens were not predicted, words are those of
  /// the text that the windows cover, times the share of its bytes that was predicted.
  double bytes = 0, words = 0;
  double nll() const;         ///< nats per token
  double perplexity() const;  ///< per token
  double word_perplexity() const;
  double bits_per_byte() const;
};

/// Window i holds the tokens from i * stride on. Every token is predicted once, from all that its
/// window shows before it: with stride < window, a window scores only what no earlier one scored
/// (a "rolling" perplexity: more context for the same predictions). The first token of a window
/// without `begin_of_text` is predicted by nobody unless windows overlap. The last window may be
/// shorter. A model with latents is scored as its base: every token, without latents. UserError where
/// window, stride and the model's block_size do not fit together or the text (UTF-8) has nothing to
/// predict; DivergedError when a window's loss is not finite.
PerplexityResult perplexity(LanguageModel& model, const Tokenizer& tokenizer, std::string_view text,
                            const PerplexityOptions& options,
                            const std::function<void(int64_t done, int64_t all)>& progress = {});

/// Words of a UTF-8 text as lm-eval counts them, len(re.split(r"\s+", text)): one more than its runs
/// of Unicode white space, so that white space at an end counts an empty word.
int64_t count_words(std::string_view text);

}  // namespace reverie
