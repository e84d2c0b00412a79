#pragma once
/// Elementwise ops.

#include "autograd/op.h"
#include "kernels/elementwise.h"

namespace reverie {

/// f(x), any shape.
Variable unary(Unary f, const Variable& x);
#define REVERIE_OP(name, functor)           \
  inline Variable name(const Variable& x) { \
    return unary(Unary::name, x);           \
  }
REVERIE_UNARY_FUNCTIONS(REVERIE_OP)
#undef REVERIE_OP

/// f(a, b). `b` has a's shape, or broadcasts: its sizes, aligned at the right, are a's or 1, and
/// those that are a's are neighbours
/// ([C], [T, 1], [B, T, 1], [1] with a [B, T, C]). UserError otherwise.
Variable binary(Binary f, const Variable& a, const Variable& b);
#define REVERIE_OP(name, functor)                              \
  inline Variable name(const Variable& a, const Variable& b) { \
    return binary(Binary::name, a, b);                         \
  }
REVERIE_BINARY_FUNCTIONS(REVERIE_OP)
#undef REVERIE_OP

/// factor * x + shift.
Variable affine(const Variable& x, double factor, double shift = 0);
inline Variable scale(const Variable& x, double factor) {
  return affine(x, factor);
}

/// cap * tanh(x / cap): x where it is small, and never beyond the cap (Gemma 2's logits). cap 0: x.
inline Variable softcap(const Variable& x, double cap) {
  return cap == 0 ? x : scale(tanh(scale(x, 1 / cap)), cap);
}

/// f(x + bias), x [.., C], bias [C] or undefined.
Variable bias_activation(Unary f, const Variable& x, const Variable& bias);
/// f(gate) * up: SwiGLU with silu, GeGLU with gelu_tanh.
Variable gated(Unary f, const Variable& gate, const Variable& up);

/// Drops with probability p and scales what is kept by 1 / (1 - p); draws from default_generator().
/// p = 0: x itself.
Variable dropout(const Variable& x, double p);

}  // namespace reverie
