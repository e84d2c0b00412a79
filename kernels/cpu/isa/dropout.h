#pragma once
/// Runs of dropout decisions, several Philox blocks at a time.

#include "core/random.h"
#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/isa/simd.h"

namespace reverie::cpu::REVERIE_ISA {

/// Number n of the stream is kept where its 24 bits are at least p * 2^24: uniform_from_bits(n) >=
/// p, without the conversion.
struct DropoutStream {
  uint64_t seed, offset;
  uint32_t threshold;
  double scale;  ///< of what is kept
};
static inline DropoutStream dropout_stream(double p, uint64_t seed, uint64_t offset) {
  return {seed, offset, uint32_t(__builtin_ceil(p * 16777216.0)), 1.0 / (1.0 - p)};
}

/// The same rounds as `philox`, one block a lane; only the low half of each lane counts.
struct PhiloxLanes {
  Words v[4];
};
static inline PhiloxLanes philox_lanes(uint64_t seed, Words counter) {
  Words c0 = counter, c1 = counter >> 32, c2 = {}, c3 = {};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  const Words first = Words{} + 0xD2511F53u, second = Words{} + 0xCD9E8D57u;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const Words p0 = multiply_low_halves(c0, first), p1 = multiply_low_halves(c2, second);
    c0 = (p1 >> 32) ^ c1 ^ uint64_t(k0);
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ uint64_t(k1);
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// factor[i] = scale or 0 for numbers first .. first + count - 1. `factor` has room for count +
/// kDropoutSlack numbers, of which the first wanted one is at the returned place.
inline constexpr int64_t kDropoutSlack = 4 * kWordLanes + 3;
template <class T>
static inline T* draw_dropout(const DropoutStream& s, uint64_t first, int64_t count, T* factor) {
  const int64_t skipped = int64_t(first % 4);
  const T kept = T(s.scale);
  const auto threshold = int32_t(s.threshold);
  Words counter;
  for (int i = 0; i < kWordLanes; ++i) counter[i] = s.offset + first / 4 + uint64_t(i);
  for (int64_t done = 0; done < count + skipped;
       done += 4 * kWordLanes, counter += uint64_t(kWordLanes)) {
    const PhiloxLanes draw = philox_lanes(s.seed, counter);
    // Two numbers a word, as they lie in memory.
    const Words low = (draw.v[0] & 0xffffffffu) | (draw.v[1] << 32),
                high = (draw.v[2] & 0xffffffffu) | (draw.v[3] << 32);
    uint64_t words[2 * kWordLanes];
    for (int i = 0; i < kWordLanes; ++i) {
      words[2 * i] = low[i];
      words[2 * i + 1] = high[i];
    }
    uint32_t bits[4 * kWordLanes];
    __builtin_memcpy(bits, words, sizeof(bits));
#pragma omp simd
    for (int i = 0; i < 4 * kWordLanes; ++i)
      factor[done + i] = int32_t(bits[i] >> 8) >= threshold ? kept : T(0);
  }
  return factor + skipped;
}

}  // namespace reverie::cpu::REVERIE_ISA
