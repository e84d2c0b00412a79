#pragma once
// Random weights as files have them (core/compact_weights.h).

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "core/compact_weights.h"
#include "core/dtype.h"
#include "core/gguf.h"
#include "core/random.h"

namespace reverie::test {

inline constexpr CompactType kCompactTypes[] = {
    CompactType::f16,  CompactType::q4_0, CompactType::q4_1, CompactType::q5_0, CompactType::q5_1,
    CompactType::q8_0, CompactType::q4_k, CompactType::q5_k, CompactType::q6_k, CompactType::bf16};

inline const GgufLayout& layout_of(CompactType type) {
  return *gguf_layout(uint32_t(type));
}
inline std::string name_of(CompactType type) {
  return std::string(layout_of(type).name);
}
// Bytes of a row.
inline int64_t row_bytes_of(CompactType type, int64_t columns) {
  return columns / int64_t(layout_of(type).elements) * int64_t(layout_of(type).bytes);
}

// Where a block keeps its scales in half precision; -1: none.
struct Halves {
  int first, second;
};
inline Halves halves_of(CompactType type) {
  switch (type) {
    case CompactType::q4_1:
    case CompactType::q5_1:
    case CompactType::q4_k:
    case CompactType::q5_k:
      return {0, 2};
    case CompactType::q6_k:
      return {208, -1};
    case CompactType::f16:
    case CompactType::bf16:
      return {-1, -1};
    default:
      return {0, -1};
  }
}

// Random blocks whose scales are small numbers of either sign.
inline std::vector<std::byte> random_blocks(CompactType type, int64_t rows, int64_t columns,
                                            Generator& random) {
  const GgufLayout& layout = layout_of(type);
  const int64_t blocks = columns / int64_t(layout.elements);
  std::vector<std::byte> bytes(size_t(rows * row_bytes_of(type, columns)));
  const auto small = [&] { return 0.05f * (float(random.below(2001)) / 1000 - 1); };
  for (std::byte& b : bytes) b = std::byte(random.below(256));
  const Halves halves = halves_of(type);
  for (int64_t block = 0; block < rows * blocks; ++block) {
    std::byte* at = bytes.data() + block * int64_t(layout.bytes);
    const auto put = [&](int where, uint16_t bits) { std::memcpy(at + where, &bits, 2); };
    for (const int where : {halves.first, halves.second})
      if (where >= 0) put(where, Float16(small()).bits);
    if (type == CompactType::f16) put(0, Float16(small()).bits);
    if (type == CompactType::bf16) put(0, BFloat16(small()).bits);
  }
  return bytes;
}

}  // namespace reverie::test
