#pragma once
/// User-defined pieces of SentencePiece where a space is put before the text.

#include "datasets/tokenizers/subword_spec.h"

namespace reverie {

/// Whether tokenizer.json's added tokens cannot say what the spec says: pieces are looked for in
/// normalized text, which begins with a space that the library would put before each of these
/// pieces, too, before it looks for them.
bool needs_split_pieces(const SubwordSpec& spec);

/// The same vocabulary (merges in a list) with such pieces cut out of the normalized text by a
/// pre-tokenizer, and taken whole (ignore_merges) in place of added tokens. UserError, with the
/// reason and what to do, where a text would then get other ids: a piece that merges never make, a
/// name of a byte that cannot be kept apart from the byte's token.
SubwordSpec with_split_pieces(SubwordSpec spec);

}  // namespace reverie
