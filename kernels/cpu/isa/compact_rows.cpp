// Blocks of few bits to f32 in registers. This file is compiled without contraction of a * b + c
// into one rounding (CMakeLists.txt), since the blocks' values are rounded after each; sums of
// products say where they are fused.

#include "kernels/cpu/isa/compact_rows.h"

#include "kernels/cpu/isa/skinny_gemm.h"
#include "kernels/kernel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

constexpr int kWide = kLanes<float>;
using Floats = Vector<float>;
using Ints = Index<float>;

// As many bytes as there are lanes. The compiler makes conversions over two widths one by one.
#if defined(__AVX512F__)
REVERIE_INLINE Ints load_bytes(const uint8_t* p) {
  return (Ints)_mm512_maskz_cvtepu8_epi32(0xffff,
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
REVERIE_INLINE Ints load_signed_bytes(const uint8_t* p) {
  return (Ints)_mm512_maskz_cvtepi8_epi32(0xffff,
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
#elif defined(__AVX2__)
REVERIE_INLINE Ints load_bytes(const uint8_t* p) {
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
REVERIE_INLINE Ints load_signed_bytes(const uint8_t* p) {
  return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
#else
REVERIE_INLINE Ints load_bytes(const uint8_t* p) {
  Ints v;
  for (int i = 0; i < kWide; ++i) v[i] = p[i];
  return v;
}
REVERIE_INLINE Ints load_signed_bytes(const uint8_t* p) {
  Ints v;
  for (int i = 0; i < kWide; ++i) v[i] = int8_t(p[i]);
  return v;
}
#endif
REVERIE_INLINE Floats floats_of(Ints v) {
  return __builtin_convertvector(v, Floats);
}

/// a * b + c as the compiler makes it of SkinnyGemm's sums: rounded once where it can be.
REVERIE_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
REVERIE_INLINE float multiply_add(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

REVERIE_INLINE uint32_t load_word(const uint8_t* p) {
  return uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
}
REVERIE_INLINE float half_to_float(const uint8_t* p) {
  const uint32_t bits = uint32_t(p[0]) | uint32_t(p[1]) << 8;
#if defined(__F16C__)
  return _cvtsh_ss(uint16_t(bits));
#else
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
                 fraction = bits & 0x3ffu;
  if (exponent == 0)
    return __builtin_bit_cast(float,
                              __builtin_bit_cast(uint32_t, float(fraction) * 0x1p-24f) | sign);
  return __builtin_bit_cast(
      float, sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
#endif
}
/// x in all lanes, also where it is -0.
REVERIE_INLINE Floats all_lanes(float x) {
  return x - Floats{};
}

// ---- types ---------------------------------------------------------------------------------
// Each gives 32 elements at a time: kGroups of them make a block of kBytes. kPieces vectors.
constexpr int kGroup32 = 32, kPieces = kGroup32 / kWide;

/// Quants of the lower halves of 16 bytes, then of the upper ones.
REVERIE_INLINE Ints nibbles(const uint8_t* bytes, int piece) {
  const int at = piece * kWide;
  return at < 16 ? load_bytes(bytes + at) & 15 : load_bytes(bytes + at - 16) >> 4;
}
/// The fifth bits of 32 elements are one little-endian number.
REVERIE_INLINE Ints fifth_bits(uint32_t bits, int piece) {
  const Ints lanes = lane_numbers<float>();
  return ((Ints{} + int32_t(bits >> (piece * kWide))) >> lanes & 1) << 4;
}

struct Q8_0 {
  static constexpr int kGroups = 1, kBytes = 34;
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
    const Floats d = all_lanes(half_to_float(in));
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) out[i] = floats_of(load_signed_bytes(in + 2 + i * kWide)) * d;
  }
};
struct Q4_0 {
  static constexpr int kGroups = 1, kBytes = 18;
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
    const Floats d = all_lanes(half_to_float(in));
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) out[i] = d * floats_of(nibbles(in + 2, i) - 8);
  }
};
struct Q4_1 {
  static constexpr int kGroups = 1, kBytes = 20;
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
    const Floats d = all_lanes(half_to_float(in)), least = all_lanes(half_to_float(in + 2));
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) out[i] = d * floats_of(nibbles(in + 4, i)) + least;
  }
};
struct Q5_0 {
  static constexpr int kGroups = 1, kBytes = 22;
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
    const Floats d = all_lanes(half_to_float(in));
    const uint32_t fifth = load_word(in + 2);
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
      out[i] = d * floats_of((nibbles(in + 6, i) | fifth_bits(fifth, i)) - 16);
  }
};
struct Q5_1 {
  static constexpr int kGroups = 1, kBytes = 24;
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
    const Floats d = all_lanes(half_to_float(in)), least = all_lanes(half_to_float(in + 2));
    const uint32_t fifth = load_word(in + 4);
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
      out[i] = d * floats_of(nibbles(in + 8, i) | fifth_bits(fifth, i)) + least;
  }
};

/// Scale and minimum of 32 elements, times those of their block of 256.
struct ScaleMin {
  Floats scale, least;
};
REVERIE_INLINE ScaleMin scale_min(const uint8_t* in, int group) {
  const uint8_t* packed = in + 4;
  const bool first = group < 4;
  const int scale = first ? packed[group] & 63
                          : (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4,
            least =
                first ? packed[group + 4] & 63 : packed[group + 4] >> 4 | (packed[group] >> 6) << 4;
  return {all_lanes(half_to_float(in) * float(scale)),
          all_lanes(half_to_float(in + 2) * float(least))};
}
struct Q4_K {
  static constexpr int kGroups = 8, kBytes = 144;
  static REVERIE_INLINE void widen(const uint8_t* in, int group, Floats (&out)[kPieces]) {
    const ScaleMin s = scale_min(in, group);
    const uint8_t* bytes = in + 16 + group / 2 * 32;
    const int shift = group % 2 * 4;
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
      out[i] = s.scale * floats_of(load_bytes(bytes + i * kWide) >> shift & 15) - s.least;
  }
};
struct Q5_K {
  static constexpr int kGroups = 8, kBytes = 176;
  static REVERIE_INLINE void widen(const uint8_t* in, int group, Floats (&out)[kPieces]) {
    const ScaleMin s = scale_min(in, group);
    const uint8_t *fifth = in + 16, *bytes = in + 48 + group / 2 * 32;
    const int shift = group % 2 * 4;
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) {
      const Ints quants = (load_bytes(bytes + i * kWide) >> shift & 15) |
                          (load_bytes(fifth + i * kWide) >> group & 1) << 4;
      out[i] = s.scale * floats_of(quants) - s.least;
    }
  }
};
struct Q6_K {
  static constexpr int kGroups = 8, kBytes = 210;
  static REVERIE_INLINE void widen(const uint8_t* in, int group, Floats (&out)[kPieces]) {
    const int half = group / 4, row = group % 4;
    const uint8_t *low = in + half * 64 + row % 2 * 32, *high = in + 128 + half * 32,
                  *scales = in + 192 + group * 2;
    const float d = half_to_float(in + 208);
    const Floats scale[2] = {all_lanes(d * float(int8_t(scales[0]))),
                             all_lanes(d * float(int8_t(scales[1])))};
    const int shift = row / 2 * 4;
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) {
      const Ints quants = (load_bytes(low + i * kWide) >> shift & 15) |
                          (load_bytes(high + i * kWide) >> (2 * row) & 3) << 4;
      out[i] = scale[i * kWide / 16] * floats_of(quants - 32);
    }
  }
};

/// 16 bits an element: a row may end anywhere.
struct Bf16 {
  static constexpr int kGroups = 1, kBytes = 64;
  static REVERIE_INLINE Floats lanes(const uint8_t* in) {
    return load_as<float>(reinterpret_cast<const uint16_t*>(in));
  }
  static REVERIE_INLINE float one(const uint8_t* in) {
    return __builtin_bit_cast(float, uint32_t(in[0]) << 16 | uint32_t(in[1]) << 24);
  }
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) out[i] = lanes(in + 2 * i * kWide);
  }
};
struct F16 {
  static constexpr int kGroups = 1, kBytes = 64;
  static REVERIE_INLINE float one(const uint8_t* in) { return half_to_float(in); }
  static REVERIE_INLINE Floats lanes(const uint8_t* in) {
#if defined(__AVX512F__)
    return (Floats)_mm512_maskz_cvtph_ps(0xffff,
                                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
#elif defined(__F16C__)
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
#else
    Floats v;
    for (int i = 0; i < kWide; ++i) v[i] = one(in + 2 * i);
    return v;
#endif
  }
  static REVERIE_INLINE void widen(const uint8_t* in, int, Floats (&out)[kPieces]) {
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i) out[i] = lanes(in + 2 * i * kWide);
  }
};
template <class Type>
concept EndsAnywhere = requires(const uint8_t* in) {
  Type::one(in);
};

/// body(Type{}) for the type.
template <class Body>
void for_type(CompactType type, const Body& body) {
  switch (type) {
    case CompactType::q8_0:
      return body(Q8_0{});
    case CompactType::q4_0:
      return body(Q4_0{});
    case CompactType::q4_1:
      return body(Q4_1{});
    case CompactType::q5_0:
      return body(Q5_0{});
    case CompactType::q5_1:
      return body(Q5_1{});
    case CompactType::q4_k:
      return body(Q4_K{});
    case CompactType::q5_k:
      return body(Q5_K{});
    case CompactType::q6_k:
      return body(Q6_K{});
    case CompactType::bf16:
      return body(Bf16{});
    case CompactType::f16:
      return body(F16{});
  }
  no_case_for("compact type", int(type));
}

// ---- rows ----------------------------------------------------------------------------------
template <class Type>
void widen_row(const uint8_t* row, int64_t columns, float* to) {
  const int64_t blocks = columns / (Type::kGroups * kGroup32);
  for (int64_t b = 0; b < blocks; ++b, row += Type::kBytes) {
#pragma GCC unroll 8
    for (int group = 0; group < Type::kGroups; ++group, to += kGroup32) {
      Floats pieces[kPieces];
      Type::widen(row, group, pieces);
#pragma GCC unroll 8
      for (int i = 0; i < kPieces; ++i) store(to + i * kWide, pieces[i]);
    }
  }
  if constexpr (EndsAnywhere<Type>)
    for (int64_t i = 0; i < columns % kGroup32; ++i) to[i] = Type::one(row + 2 * i);
}

/// Elements [row, row + kRows) x [j, j + kCount). Each is summed in the same order, whichever others
/// are beside it. `fetch`: the next kCount rows of weights are asked for meanwhile, in the order in
/// which they lie.
template <class Type, int kRows, int kCount>
REVERIE_INLINE void compact_dots(const CompactProduct& p, int64_t row, int64_t j, bool fetch) {
  const CompactView& w = p.weights;
  const float* a = p.a + row * p.a_row;
  const uint8_t* b = w.bytes + j * w.row_bytes;
  const uint8_t *ahead = b + kCount * w.row_bytes, *ahead_until = ahead;
  Floats total[kRows * kCount] = {};
  const int64_t blocks = w.columns / (Type::kGroups * kGroup32);
  int64_t x = 0;
  for (int64_t block = 0; block < blocks; ++block, b += Type::kBytes) {
    if (fetch) {
      ahead_until += kCount * Type::kBytes;
      for (; ahead < ahead_until; ahead += 64) __builtin_prefetch(ahead, 0, 2);
    }
#pragma GCC unroll 8
    for (int group = 0; group < Type::kGroups; ++group, x += kGroup32) {
#pragma GCC unroll 4
      for (int column = 0; column < kCount; ++column) {
        Floats right[kPieces];
        Type::widen(b + column * w.row_bytes, group, right);
#pragma GCC unroll 8
        for (int i = 0; i < kPieces; ++i)
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            Floats& sum = total[r * kCount + column];
            sum = multiply_add(load(a + r * p.a_row + x + i * kWide), right[i], sum);
          }
      }
    }
  }
  if constexpr (EndsAnywhere<Type>)
    for (; x + kWide <= w.columns; x += kWide, b += 2 * kWide)
      for (int column = 0; column < kCount; ++column) {
        const Floats right = Type::lanes(b + column * w.row_bytes);
        for (int r = 0; r < kRows; ++r) {
          Floats& sum = total[r * kCount + column];
          sum = multiply_add(load(a + r * p.a_row + x), right, sum);
        }
      }
  float sums[kRows * kCount];
  sum_lanes_of<float>(total, sums);
  for (int r = 0; r < kRows; ++r)
    for (int column = 0; column < kCount; ++column) {
      float sum = sums[r * kCount + column];
      if constexpr (EndsAnywhere<Type>)
        for (int64_t rest = x; rest < w.columns; ++rest)
          sum = multiply_add(a[r * p.a_row + rest],
                             Type::one(b + column * w.row_bytes + 2 * (rest - x)), sum);
      float& to = p.c[(row + r) * p.c_row + j + column];
      to = p.accumulate ? multiply_add(p.alpha, sum, to) : p.alpha * sum;
    }
}
template <class Type, int kCount>
void compact_columns(const CompactProduct& p, int64_t j) {
  int64_t row = 0;
  for (; row + 4 <= p.m; row += 4) compact_dots<Type, 4, kCount>(p, row, j, row == 0);
  switch (p.m - row) {
    case 3:
      return compact_dots<Type, 3, kCount>(p, row, j, row == 0);
    case 2:
      return compact_dots<Type, 2, kCount>(p, row, j, row == 0);
    case 1:
      return compact_dots<Type, 1, kCount>(p, row, j, row == 0);
  }
}

}  // namespace

void widen_rows(const CompactView& w, int64_t first, int64_t count, float* to) {
  for_type(w.type, [&](auto type) {
    for (int64_t i = 0; i < count; ++i)
      widen_row<decltype(type)>(w.bytes + (first + i) * w.row_bytes, w.columns, to + i * w.columns);
  });
}

void multiply_compact_rows(const CompactProduct& p) {
  constexpr int64_t kBlock = 64;
  const int64_t n = p.weights.rows;
  for_type(p.weights.type, [&](auto type) {
    using Type = decltype(type);
    for_each((n + kBlock - 1) / kBlock, kBlock * p.weights.columns, [&](int64_t block) {
      int64_t j = block * kBlock;
      const int64_t end = smaller(n, j + kBlock);
      for (; j + kColumns <= end; j += kColumns) {
        if (p.m == 1) {
          compact_dots<Type, 1, kColumns>(p, 0, j, true);
        } else {
          compact_columns<Type, 2>(p, j);
          compact_columns<Type, 2>(p, j + 2);
        }
      }
      for (; j < end; ++j) compact_columns<Type, 1>(p, j);
    });
  });
}

}  // namespace reverie::cpu::REVERIE_ISA
