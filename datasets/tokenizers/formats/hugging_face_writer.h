#pragma once
/// A tokenizer of ours in Hugging Face's files.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

struct HuggingFaceTokenizer {
  Json tokenizer;  ///< tokenizer.json
  Json config;     ///< tokenizer_config.json
  Json special;    ///< special_tokens_map.json
};

/// Byte-level and SentencePiece's vocabularies become a "BPE" model, characters and words a
/// "WordLevel" model without an unknown token, which refuses what the vocabulary lacks as ours does.
/// Scores become a list of merges; what a list cannot say shows as other ids for `texts`, which
/// transformers' reading of the file (as ours does it) is compared on. A token is named begin or end
/// of text only where its text is read as that token in a text. `longest`: tokens that the model
/// takes. UserError naming what cannot be expressed.
HuggingFaceTokenizer hugging_face_tokenizer(const Tokenizer& tokenizer, int64_t longest,
                                            const std::vector<std::string>& texts);

}  // namespace reverie
