#pragma once
/// Records that are padded at their ends: a question, steps and an answer, then nothing.

#include "core/tensor.h"

namespace reverie {

struct Columns {
  Tensor tokens, targets;  ///< [B, T]
};

/// The columns up to the last in which some row has a target (0 or more). Those behind it change no
/// loss of a causal model and need no forward.
Columns up_to_last_target(const Tensor& tokens, const Tensor& targets);

}  // namespace reverie
