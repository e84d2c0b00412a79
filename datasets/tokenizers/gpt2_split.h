#pragma once
/// GPT-2's split of text into words, before byte pairs are merged within each.

#include <cstddef>
#include <string_view>

namespace reverie {

/// The end of the word that begins at text[at]: the longest first match, at `at`, of GPT-2's pattern
///
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// (Radford et al. 2019, "Language models are unsupervised multitask learners"; its encoder.py). A
/// scanner and not a regular expression, for speed and because its Unicode classes must not vary
/// with a library (unicode_classes.h). DataError with the byte offset (`base` + its place in `text`)
/// where the bytes are not UTF-8.
size_t gpt2_word_end(std::string_view text, size_t at, size_t base = 0);

/// The first place p >= `wanted` between a character that is no space and one that is. No word spans
/// it, and no word on either side depends on what is on the other. text.size() when there is none.
size_t gpt2_cut_after(std::string_view text, size_t wanted);

}  // namespace reverie
