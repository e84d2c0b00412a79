#pragma once
/// Matrix products.

#include "autograd/op.h"
#include "autograd/precision.h"
#include "kernels/elementwise.h"

namespace reverie {

/// alpha * op(a) op(b), [M, K] [K, N] -> [M, N], or with a batch in front of both (or of a alone: b
/// is shared). transpose_a / transpose_b: the last two dimensions are read the other way round.
Variable matmul(const Variable& a, const Variable& b, bool transpose_a = false,
                bool transpose_b = false, double alpha = 1);

/// Layout of a linear layer's weight: Hugging Face's Linear [out, in], or GPT-2's Conv1D [in, out].
enum class WeightLayout { out_in, in_out };

/// x [.., in] W (+ bias [out]) -> [.., out].
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {},
                WeightLayout layout = WeightLayout::out_in);

/// f(linear(x)), bias and activation in one pass; `read_by`: what reads the result
/// (autograd/precision.h).
Variable linear_activation(Unary f, const Variable& x, const Variable& weight,
                           const Variable& bias = {}, WeightLayout layout = WeightLayout::out_in,
                           ReadBy read_by = ReadBy::any);

}  // namespace reverie
