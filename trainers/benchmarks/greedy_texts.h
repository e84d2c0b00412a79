#pragma once
/// A model's texts behind prompts; each token is the likeliest.

#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "trainers/benchmarks/text_reader.h"

namespace reverie {

struct WritingOptions {
  const Tokenizer& tokenizer;
  int64_t max_tokens = 256;
  std::vector<std::string> stop = {};  ///< each ends a text when it comes, and is not part of it
  std::vector<int32_t> ends = {};      ///< tokens that do the same
};

struct WrittenText {
  std::string text;
  int64_t tokens = 0;  ///< written, what ended it included
};

/// The texts after one batch of prompts (readings without continuations), side by side; those that
/// have ended are left out of the next forwards. A model without a cache writes one after another.
std::vector<WrittenText> write_texts(TextReader& reader, const std::vector<Reading>& prompts,
                                     const ReadingPlan& plan, const ReadingBatch& batch,
                                     const WritingOptions& options, bool audited);

struct TokenWritingOptions {
  int64_t max_tokens = 256;
  int64_t vocabulary = 0;          ///< tokens below this may be written
  std::vector<int32_t> ends = {};  ///< each ends a text, and is its last token
};
/// The same in tokens, for models whose tokens are not all a tokenizer's.
std::vector<std::vector<int32_t>> write_tokens(TextReader& reader,
                                               const std::vector<Reading>& prompts,
                                               const ReadingPlan& plan, const ReadingBatch& batch,
                                               const TokenWritingOptions& options, bool audited);

}  // namespace reverie
