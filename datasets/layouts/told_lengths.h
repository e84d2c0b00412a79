#pragma once
/// How long the texts are that a decoder of memories is trained on.

#include <cstdint>

#include "datasets/data_options.h"

namespace reverie {

/// Tokens that a record's text has; most 0: the options do not say.
struct ReadLengths {
  int64_t least = 1, most = 0;
};

/// For the forms recount, facts and steps; of examples in a file nothing is known.
ReadLengths read_lengths(const DataOptions& options);

}  // namespace reverie
