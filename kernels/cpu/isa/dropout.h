#pragma once
// Runs of dropout decisions, several Philox blocks at a time.

#include "core/random.h"
#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {

// Number n of the stream is kept where its 24 bits are at least p * 2^24: uniform_from_bits(n) >= p, without the conversion.
struct DropoutStream {
  uint64_t seed, offset;
  uint32_t threshold;
  double scale;  // of what is kept
};
static inline DropoutStream dropout_stream(double p, uint64_t seed, uint64_t offset) {
  return {seed, offset, uint32_t(__builtin_ceil(p * 16777216.0)), 1.0 / (1.0 - p)};
}

// factor[i] = scale or 0 for numbers first .. first + count - 1. `factor` has room for count + 2 * kDropoutSlack numbers, of
// which the first wanted one is at the returned place.
inline constexpr int64_t kDropoutBlocks = 16;  // drawn together
inline constexpr int64_t kDropoutSlack = 4 * kDropoutBlocks;
template <class T>
static inline T* draw_dropout(const DropoutStream& s, uint64_t first, int64_t count, T* factor) {
  const uint64_t block = s.offset + first / 4;
  const int64_t skipped = int64_t(first % 4);
  const T kept = T(s.scale);
  for (int64_t done = 0; done < count + skipped; done += 4 * kDropoutBlocks) {
    uint32_t bits[4][kDropoutBlocks];
#pragma omp simd
    for (int64_t i = 0; i < kDropoutBlocks; ++i) {
      const Philox4 draw = philox(s.seed, block + uint64_t(done / 4 + i));
      bits[0][i] = draw.v[0];
      bits[1][i] = draw.v[1];
      bits[2][i] = draw.v[2];
      bits[3][i] = draw.v[3];
    }
    for (int64_t i = 0; i < kDropoutBlocks; ++i)
      for (int64_t k = 0; k < 4; ++k) factor[done + 4 * i + k] = (bits[k][i] >> 8) >= s.threshold ? kept : T(0);
  }
  return factor + skipped;
}

}  // namespace reverie::cpu::REVERIE_ISA
