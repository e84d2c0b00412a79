#pragma once
/// Table look-up.

#include "autograd/op.h"

namespace reverie {

/// tokens i32 [B, T] -> table[tokens] (+ positions[first_position + t]) [B, T, C]. table [V, C];
/// positions [P, C] or undefined. A token outside the table, or a position outside P, is UserError.
Variable embedding(const Tensor& tokens, const Variable& table, const Variable& positions = {},
                   int64_t first_position = 0);

}  // namespace reverie
