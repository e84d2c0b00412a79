#pragma once
/// A tokenizer of ours in a GGUF file's metadata.

#include "core/gguf_writer.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// Adds tokenizer.ggml.*: byte-level vocabularies as model "gpt2" with the split that llama.cpp
/// knows by name, SentencePiece's scores as model "llama". `rows`: the model's vocabulary, filled up
/// with unused tokens, since the file has one token a row. UserError for what the format cannot
/// express: characters, words and merges of characters, splits without a name, and vocabularies
/// without a token that ends a text, in whose place a reader would take one of its own.
void write_gguf_tokenizer(GgufWriter& out, const Tokenizer& tokenizer, int64_t rows);
/// Says that the file has no tokenizer, instead of leaving it to the reader.
void write_no_gguf_tokenizer(GgufWriter& out);

}  // namespace reverie
