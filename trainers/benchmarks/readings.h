#pragma once
/// A benchmark's requests in tokens: contexts that are read once, and what is asked behind them.

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/benchmarks/items.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// One continuation whose likelihood is asked.
struct Continuation {
  size_t item = 0, choice = 0;  ///< places in BenchmarkItems::items, and among its choices
  std::vector<int32_t> tokens;
};

/// A context; continuations of an item that follow the same one share it.
struct Reading {
  std::vector<int32_t> context;
  std::vector<Continuation> continuations;
  std::string part;  ///< readings of one part may begin alike
  bool cut = false;  ///< its beginning did not fit

  /// Tokens that one forward over the context and its only continuation reads.
  int64_t length_with_continuation() const {
    return int64_t(context.size() + continuations.front().tokens.size()) - 1;
  }
};

/// How a model takes texts.
struct ReadingOptions {
  const Tokenizer& tokenizer;
  int64_t rows = 0;  ///< the model's vocabulary size
  int64_t room = 0;  ///< most tokens in one forward
};

/// The tokens of context and continuation as lm-eval has them: white space at the context's end
/// belongs to the continuation, both are encoded as one text, and the continuation is what lies
/// behind as many tokens as the context alone has. A context without other characters is the begin-of-text token, or
/// else the end-of-text token. What is too long loses its beginning. UserError, naming the item,
/// where a continuation has no token, or alone is longer than the model reads.
std::vector<Reading> likelihood_readings(const BenchmarkItems& items,
                                         const ReadingOptions& options);

/// The tokens of a prompt that `max_tokens` are to follow; the beginning of one that is too long is
/// left out, and `cut` set. UserError where `max_tokens` leave no room.
std::vector<int32_t> prompt_reading(const std::string& prompt, int64_t max_tokens,
                                    const ReadingOptions& options, bool& cut);

/// The tokens that all these readings begin with, but for the last of the shortest. Readings that were
/// cut are not asked.
std::vector<int32_t> common_beginning(const std::vector<const Reading*>& readings);

}  // namespace reverie
