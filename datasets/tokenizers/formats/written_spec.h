#pragma once
/// Tokenizers of ours as the one kind of vocabulary that other programs' files have.

#include <optional>
#include <string>
#include <string_view>

#include "datasets/tokenizers/subword_spec.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// The spec of a tokenizer that merges: GPT-2's own or a SubwordTokenizer. nullopt: another kind.
std::optional<SubwordSpec> spec_of(const Tokenizer& tokenizer);

/// The same vocabulary with a list of merges in place of its scores: for each piece every pair of
/// pieces that makes it, the highest score first, and of one piece's pairs the longest left part
/// first (the order of transformers' own converter). UserError where a part is no piece.
SubwordSpec with_listed_merges(SubwordSpec spec);

/// A pre-tokenizer's or decoder's description with every key that the `tokenizers` library wants,
/// defaults filled in.
Json completed(const Json& description);

/// The added token that is found in text as it is written, and is `id`.
bool is_read_in_text(const SubwordSpec& spec, int32_t id);

}  // namespace reverie
