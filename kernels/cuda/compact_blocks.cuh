#pragma once
// Weights as a file has them (core/compact_weights.h) to f32, four elements at a time. Values are,
// bit for bit, those of core/gguf_dequantize.cpp.

#include "core/compact_weights.h"
#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {

inline constexpr int kFour = 4;
using Four = Pack<float, kFour>;

namespace blocks {

// Two bytes, and four: on a boundary of 2, or of 4 where kAligned.
__device__ inline uint16_t half_word(const uint8_t* p) {
  return *reinterpret_cast<const uint16_t*>(p);
}
template <bool kAligned>
__device__ uint32_t word(const uint8_t* p) {
  if constexpr (kAligned)
    return *reinterpret_cast<const uint32_t*>(p);
  else
    return uint32_t(half_word(p)) | uint32_t(half_word(p + 2)) << 16;
}
__device__ inline float half_at(const uint8_t* p) {
  return float_of_half(half_word(p));
}
__device__ inline int byte_of(uint32_t four_bytes, int k) {
  return int(four_bytes >> (8 * k) & 255u);
}

// Elements i .. i + 3 of 32 whose lower halves of 16 bytes come first, as four bytes.
template <bool kAligned>
__device__ uint32_t nibbles(const uint8_t* bytes, int i) {
  return word<kAligned>(bytes + i % 16) >> (i < 16 ? 0 : 4) & 0x0f0f0f0fu;
}
// The fifth bit of element i of 32, in its place; those of all are one little-endian number.
__device__ inline int fifth_bit(uint32_t bits, int i) {
  return int(bits >> i & 1u) << 4;
}
// scale * quant + least for the quants in four bytes.
__device__ inline Four scaled(uint32_t quants, float scale, float least) {
  Four four;
  for (int k = 0; k < kFour; ++k)
    four.at[k] = rounded_sum(rounded_product(scale, float(byte_of(quants, k))), least);
  return four;
}

// Each gives elements i .. i + 3 of a block, i a multiple of 4.

struct Q8_0 {
  static constexpr int kElements = 32, kBytes = 34;
  static __device__ Four four(const uint8_t* in, int i) {
    const float d = half_at(in);
    const uint32_t quants = word<false>(in + 2 + i);
    Four four;
    for (int k = 0; k < kFour; ++k)
      four.at[k] = rounded_product(float(int8_t(byte_of(quants, k))), d);
    return four;
  }
};
struct Q4_0 {
  static constexpr int kElements = 32, kBytes = 18;
  static __device__ Four four(const uint8_t* in, int i) {
    const float d = half_at(in);
    const uint32_t quants = nibbles<false>(in + 2, i);
    Four four;
    for (int k = 0; k < kFour; ++k) four.at[k] = rounded_product(d, float(byte_of(quants, k) - 8));
    return four;
  }
};
struct Q4_1 {
  static constexpr int kElements = 32, kBytes = 20;
  static __device__ Four four(const uint8_t* in, int i) {
    return scaled(nibbles<true>(in + 4, i), half_at(in), half_at(in + 2));
  }
};
struct Q5_0 {
  static constexpr int kElements = 32, kBytes = 22;
  static __device__ Four four(const uint8_t* in, int i) {
    const float d = half_at(in);
    const uint32_t fifth = word<false>(in + 2), quants = nibbles<false>(in + 6, i);
    Four four;
    for (int k = 0; k < kFour; ++k)
      four.at[k] = rounded_product(d, float((byte_of(quants, k) | fifth_bit(fifth, i + k)) - 16));
    return four;
  }
};
struct Q5_1 {
  static constexpr int kElements = 32, kBytes = 24;
  static __device__ Four four(const uint8_t* in, int i) {
    const float d = half_at(in), least = half_at(in + 2);
    const uint32_t fifth = word<true>(in + 4), quants = nibbles<true>(in + 8, i);
    Four four;
    for (int k = 0; k < kFour; ++k)
      four.at[k] = rounded_sum(
          rounded_product(d, float(byte_of(quants, k) | fifth_bit(fifth, i + k))), least);
    return four;
  }
};

// Scale and negated minimum of group `group` of 32 elements, times those of their block of 256.
struct ScaleMin {
  float scale, least;
};
__device__ inline ScaleMin scale_min(const uint8_t* in, int group) {
  const uint8_t* packed = in + 4;
  const bool first = group < 4;
  const int scale = first ? packed[group] & 63
                          : (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4,
            least =
                first ? packed[group + 4] & 63 : packed[group + 4] >> 4 | (packed[group] >> 6) << 4;
  return {rounded_product(half_at(in), float(scale)),
          -rounded_product(half_at(in + 2), float(least))};
}
struct Q4_K {
  static constexpr int kElements = 256, kBytes = 144;
  static __device__ Four four(const uint8_t* in, int i) {
    const int group = i / 32;
    const ScaleMin s = scale_min(in, group);
    const uint32_t bytes = word<true>(in + 16 + group / 2 * 32 + i % 32);
    return scaled(bytes >> (group % 2 * 4) & 0x0f0f0f0fu, s.scale, s.least);
  }
};
struct Q5_K {
  static constexpr int kElements = 256, kBytes = 176;
  static __device__ Four four(const uint8_t* in, int i) {
    const int group = i / 32;
    const ScaleMin s = scale_min(in, group);
    const uint32_t bytes = word<true>(in + 48 + group / 2 * 32 + i % 32),
                   fifth = word<true>(in + 16 + i % 32);
    return scaled((bytes >> (group % 2 * 4) & 0x0f0f0f0fu) | (fifth >> group & 0x01010101u) << 4,
                  s.scale, s.least);
  }
};
struct Q6_K {
  static constexpr int kElements = 256, kBytes = 210;
  static __device__ Four four(const uint8_t* in, int i) {
    const int half = i / 128, row = i / 32 % 4, column = i % 32;
    const uint32_t low = word<false>(in + half * 64 + row % 2 * 32 + column),
                   high = word<false>(in + 128 + half * 32 + column),
                   quants = (low >> (row / 2 * 4) & 0x0f0f0f0fu) | (high >> (2 * row) & 0x03030303u)
                                                                       << 4;
    const float scale = rounded_product(half_at(in + 208), float(int8_t(in[192 + i / 16])));
    Four four;
    for (int k = 0; k < kFour; ++k)
      four.at[k] = rounded_product(scale, float(byte_of(quants, k) - 32));
    return four;
  }
};

// 16 bits an element: a row may end anywhere.
template <bool kBrain>
__device__ Four four_of_halves(const uint8_t* in, int64_t left) {
  const auto* bits = reinterpret_cast<const uint16_t*>(in);
  const bool whole = reinterpret_cast<uintptr_t>(in) % (2 * kFour) == 0;
  const Pack<uint16_t, kFour> each =
      whole ? load<true, kFour>(bits, left) : load<false, kFour>(bits, left);
  Four four;
  for (int k = 0; k < kFour; ++k)
    four.at[k] = kBrain ? float_of_bf16(each.at[k]) : float_of_half(each.at[k]);
  return four;
}
struct Bf16 {
  static constexpr int kElements = 1, kBytes = 2;
  static __device__ Four four(const uint8_t* in, int64_t left) {
    return four_of_halves<true>(in, left);
  }
};
struct F16 {
  static constexpr int kElements = 1, kBytes = 2;
  static __device__ Four four(const uint8_t* in, int64_t left) {
    return four_of_halves<false>(in, left);
  }
};

}  // namespace blocks

// Elements i .. i + 3 of blocks that lie one after the other, i a multiple of 4; 0 beyond the
// `left` that there are.
template <class Type>
__device__ Four four_of(const uint8_t* in, int64_t i, int64_t left) {
  if constexpr (Type::kElements == 1)
    return Type::four(in + i * Type::kBytes, left);
  else
    return Type::four(in + int64_t(uint64_t(i) / Type::kElements) * Type::kBytes,
                      int(uint64_t(i) % Type::kElements));
}

// body(Type{}) for the type.
template <class Body>
void for_type(CompactType type, const Body& body) {
  switch (type) {
    case CompactType::q8_0:
      return body(blocks::Q8_0{});
    case CompactType::q4_0:
      return body(blocks::Q4_0{});
    case CompactType::q4_1:
      return body(blocks::Q4_1{});
    case CompactType::q5_0:
      return body(blocks::Q5_0{});
    case CompactType::q5_1:
      return body(blocks::Q5_1{});
    case CompactType::q4_k:
      return body(blocks::Q4_K{});
    case CompactType::q5_k:
      return body(blocks::Q5_K{});
    case CompactType::q6_k:
      return body(blocks::Q6_K{});
    case CompactType::bf16:
      return body(blocks::Bf16{});
    case CompactType::f16:
      return body(blocks::F16{});
  }
  no_case_for("compact type", int(type));
}
inline const uint8_t* bytes_of(const CompactRows& rows) {
  return reinterpret_cast<const uint8_t*>(rows.bytes);
}

}  // namespace reverie::cuda
