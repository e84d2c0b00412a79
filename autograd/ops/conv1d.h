#pragma once
/// Causal depthwise convolution along time (Gu & Dao, "Mamba", 2023, section 3.4).

#include "autograd/op.h"

namespace reverie {

/// x [B, T, C], weight [C, K], bias [C] or undefined -> [B, T, C]:
/// y[b, t, c] = bias[c] + sum over k of weight[c, k] * x[b, t - K + 1 + k, c]. Rows before x are
/// `context` [B, K - 1, C], or 0 where that is undefined.
Variable conv1d(const Variable& x, const Variable& weight, const Variable& bias = {},
                const Variable& context = {});

/// The context of the rows that follow x: the last K - 1 rows of `context` and x, or 0 before them.
/// A text in pieces, each with the context of those before it, gives the rows of the whole text.
Tensor conv1d_context(const Tensor& x, int64_t taps, const Tensor& context = {});

}  // namespace reverie
