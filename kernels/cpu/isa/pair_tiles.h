#pragma once
/// Register tiles of products of bf16 operands, with sums in f32. Two neighbours along the depth of
/// a product lie in one 32-bit word, a pair, the earlier in its low half: what AVX-512's vdpbf16ps
/// multiplies at once. Other instruction sets widen the halves and get the same products.

#include "kernels/cpu/isa/bf16_output.h"
#include "kernels/cpu/isa/gemm_tiles.h"

namespace reverie::cpu::REVERIE_ISA {

using Pair = uint32_t;

/// Whether this machine multiplies pairs in one instruction, here.
static inline bool multiplies_pairs() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

/// total + low(a) low(b) + high(a) high(b) in each lane; kDots: where multiplies_pairs().
template <bool kDots>
REVERIE_INLINE Vector<float> add_products(Vector<float> total, Vector<Pair> a, Vector<Pair> b) {
  if constexpr (kDots) {
#if defined(__AVX512F__)
    // Not the intrinsic: it would ask for the instruction in all that is compiled here.
    asm("vdpbf16ps %2, %1, %0" : "+v"(total) : "v"(a), "v"(b));
    return total;
#endif
  }
  const auto low = [](Vector<Pair> x) { return (Vector<float>)(x << 16); };
  const auto high = [](Vector<Pair> x) { return (Vector<float>)(x & 0xffff0000u); };
  total += low(a) * low(b);
  return total + high(a) * high(b);
}

/// A matrix of pairs read one at a time: pair (i, k) at data[i * row + k * step].
struct LeftPairs {
  const Pair* data;
  int64_t row, step;
};

template <bool kDots, int kRows, int kVectors>
REVERIE_INLINE void inline_pair_tile(int64_t depth, LeftPairs a, const Pair* b, int64_t b_row,
                                     float alpha, Into into, float* c, int64_t c_row,
                                     int64_t columns) {
  Vector<float> total[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<Pair> right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + k * b_row + v * kLanes<Pair>);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vector<Pair> left = splat(a.data[i * a.row + k * a.step]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        total[i][v] = add_products<kDots>(total[i][v], left, right[v]);
    }
  }
  store_tile(total, alpha, into, c, c_row, columns);
}

template <bool kDots, int kRows, int kVectors>
[[gnu::noinline]] static void pair_tile(int64_t depth, LeftPairs a, const Pair* b, int64_t b_row,
                                        float alpha, Into into, float* c, int64_t c_row,
                                        int64_t columns) {
  inline_pair_tile<kDots, kRows, kVectors>(depth, a, b, b_row, alpha, into, c, c_row, columns);
}

/// c [rows, columns] = or += alpha * a b, rows <= kTileRows, columns <= kTileColumns; depth in
/// pairs. Row k of b holds the pairs of depth k of all columns, and is read in whole vectors.
template <bool kDots>
static inline void pair_product(int64_t rows, int64_t depth, LeftPairs a, const Pair* b,
                                int64_t b_row, float alpha, Into into, float* c, int64_t c_row,
                                int64_t columns) {
  if (rows == kTileRows && columns > kLanes<float>)
    return inline_pair_tile<kDots, kTileRows, 2>(depth, a, b, b_row, alpha, into, c, c_row,
                                                 columns);
  with_rows(rows, [&](auto count) {
    if (columns > kLanes<float>)
      pair_tile<kDots, count.value, 2>(depth, a, b, b_row, alpha, into, c, c_row, columns);
    else
      pair_tile<kDots, count.value, 1>(depth, a, b, b_row, alpha, into, c, c_row, columns);
  });
}

// ---- rounding into pairs --------------------------------------------------------------------

/// from[0, count) as pairs of neighbours; an odd last one is paired with 0.
REVERIE_INLINE void round_along(const float* from, int64_t count, Pair* to) {
  typedef uint16_t Half __attribute__((may_alias));
  Half* halves = reinterpret_cast<Half*>(to);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) halves[i] = bf16_bits(from[i]);
  if (count % 2 != 0) halves[count] = 0;
}
/// Pairs of `upper`'s numbers and those `below` them, the next row's.
REVERIE_INLINE void round_across(const float* upper, const float* below, int64_t count, Pair* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    to[i] = Pair(bf16_bits(upper[i])) | Pair(bf16_bits(below[i])) << 16;
}
/// The same of a last row, paired with zeros.
REVERIE_INLINE void round_across(const float* upper, int64_t count, Pair* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = bf16_bits(upper[i]);
}

}  // namespace reverie::cpu::REVERIE_ISA
