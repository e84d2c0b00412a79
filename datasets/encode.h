#pragma once
/// Texts into token files, in parallel pieces: a text may be larger than memory.

#include <functional>
#include <span>
#include <string_view>

#include "datasets/documents.h"
#include "datasets/token_file.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// Encodes `text` into `writer`, in pieces that give the same tokens as the whole. `encoded_bytes`
/// is called with the bytes of text that each piece was.
void encode_into(TokenFileWriter& writer, const Tokenizer& tokenizer, std::string_view text,
                 SpecialTokens special, const std::function<void(size_t)>& encoded_bytes);

/// Encodes every document by itself, with the mark that its model knows.
void encode_documents_into(TokenFileWriter& writer, const Tokenizer& tokenizer,
                           std::span<const std::string_view> documents, const DocumentMark& mark,
                           SpecialTokens special, const std::function<void(size_t)>& encoded_bytes);

}  // namespace reverie
