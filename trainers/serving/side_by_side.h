#pragma once
/// One more token for several texts of different lengths in one forward.

#include <vector>

#include "layers/transformer.h"

namespace reverie {

/// Reads tokens[i] behind texts[i], whose caches and positions go on -> final hidden states
/// [N, 1, C]. Weights are read once for all texts; each row sees its own text's cache alone. Every
/// state has a cache that has begun. `model` has no memory. Under NoGrad.
Variable read_side_by_side(const Transformer& model, const std::vector<int32_t>& tokens,
                           const std::vector<SequenceState*>& texts);

}  // namespace reverie
