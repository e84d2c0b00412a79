#pragma once
/// Results that are stored in bf16 because only products read them (ReadBy::matmul).

#include "kernels/cpu/isa/parallel.h"
#include "kernels/fmath.h"

namespace reverie::cpu::REVERIE_ISA {

/// The bits of x in bf16, rounded to nearest even. NaN stays NaN: its quiet bit survives the cut.
REVERIE_INLINE uint16_t bf16_bits(float x) {
  const uint32_t u = fmath::bits_of(x);
  const uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u), quiet = u | 0x400000u;
  return uint16_t(((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) >> 16);
}

/// to[i] = x, in the type of `to`.
template <class T>
REVERIE_INLINE void put(T* to, int64_t i, T x) {
  to[i] = x;
}
REVERIE_INLINE void put(uint16_t* to, int64_t i, float x) {
  to[i] = bf16_bits(x);
}

/// body(T(0), Out(0)): T computes, Out is stored (bf16 as its bits).
template <class Body>
static inline void for_float_into(DType dtype, DType out, const Body& body) {
  if (out == DType::bf16) {
    body(0.0f, uint16_t(0));
  } else if (dtype == DType::f32) {
    body(0.0f, 0.0f);
  } else {
    body(0.0, 0.0);
  }
}

}  // namespace reverie::cpu::REVERIE_ISA
