#pragma once
/// A byte-level BPE vocabulary learnt from text (Sennrich et al. 2016, over bytes as in GPT-2).

#include <cstdint>
#include <span>
#include <string_view>

#include "datasets/tokenizers/subword_spec.h"

namespace reverie {

/// Ids are 0: <|endoftext|>, 1 to 256: the bytes in the order of GPT-2's alphabet, then one a merge,
/// until there are `vocabulary_size` (257 or more) or no pair is left. Texts fall into words as
/// GPT-2's do. Each merge is of the pair that occurs most often, the smaller ids first among equals.
/// The same vocabulary as Hugging Face's tokenizers gives from the same texts: BPE() with
/// pre-tokenizer ByteLevel(add_prefix_space=False) and train_from_iterator(texts,
/// BpeTrainer(vocab_size=.., special_tokens=["<|endoftext|>"], initial_alphabet=
/// ByteLevel.alphabet())). Its train(files) differs where white space goes on over a line's end: it
/// reads line by line. `special`: read cuts texts at <|endoftext|>, which the library does not.
/// UserError for a vocabulary_size below 257, DataError where a text is not UTF-8.
SubwordSpec train_bpe(std::span<const std::string_view> texts, int64_t vocabulary_size,
                      bool special_tokens);

}  // namespace reverie
