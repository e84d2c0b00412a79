#pragma once
/// Texts on which two readers of one vocabulary are likely to differ.

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// `count` texts that `tokenizer` encodes, the same for the same tokenizer: white space and control
/// characters, composed and decomposed letters, many scripts, digits, contractions, long runs, and
/// mixtures of the vocabulary's own tokens, special ones included. Of a vocabulary that has no token
/// for most of these, mixtures of its own tokens alone.
std::vector<std::string> odd_texts(const Tokenizer& tokenizer, int64_t count);

}  // namespace reverie
