#pragma once
/// The language-modelling loss.

#include "autograd/op.h"

namespace reverie {

/// logits [.., V], targets i32 [..] (-1: no target) -> loss per row [..] in nats (0 without a
/// target).
Variable cross_entropy(const Variable& logits, const Tensor& targets);

/// sum over rows of cross_entropy(softcap(hidden W^T, cap), targets) * weight_per_target, without
/// ever holding all logits: rows go through in chunks, each chunk's gradient overwrites its logits.
/// hidden
/// [.., C], weight [V, C]; one element. cap 0: none. The composite of linear(), softcap() and
/// cross_entropy() is its oracle.
Variable linear_cross_entropy(const Variable& hidden, const Variable& weight, const Tensor& targets,
                              double weight_per_target, double cap = 0);

}  // namespace reverie
