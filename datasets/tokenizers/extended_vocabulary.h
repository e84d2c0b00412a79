#pragma once
/// Special tokens added to the vocabulary of a published model.

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// The tokenizer with these special tokens behind its own, in their order: the first has the id
/// vocabulary_size(). encode() finds them in text as they are written, unless special tokens are
/// read as text. UserError for a tokenizer without special tokens (of characters or words), and for
/// a text that is empty, is given twice or is a token already.
std::shared_ptr<const Tokenizer> with_special_tokens(const Tokenizer& tokenizer,
                                                     std::span<const std::string_view> texts);

/// The id of the token, special or not, that is written so in a published vocabulary; nullopt: it
/// has none.
std::optional<int32_t> token_of_text(const Tokenizer& tokenizer, std::string_view text);
/// The id of the special token that is written so; nullopt: the vocabulary has none.
std::optional<int32_t> special_token(const Tokenizer& tokenizer, std::string_view text);

}  // namespace reverie
