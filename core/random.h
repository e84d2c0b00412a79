#pragma once
/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
/// counter-based, so that (seed, offset) replays the same numbers on any device, in any order, and
/// under rematerialisation.

#include <array>
#include <cstdint>

#include "core/host_device.h"
#include "core/tensor.h"

namespace reverie {

struct Philox4 {
  uint32_t v[4];
};

/// Block `counter` of the stream of `seed`: four independent 32-bit numbers.
REVERIE_INLINE Philox4 philox(uint64_t seed, uint64_t counter) {
  uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}
/// Uniform in [0, 1) with 24 bits.
REVERIE_INLINE float uniform_from_bits(uint32_t bits) {
  return float(bits >> 8) * (1.0f / 16777216.0f);
}

/// A number in 0 .. n - 1 from one block: bits / 2^64 * n, its bias is below n / 2^64.
uint64_t philox_below(uint64_t seed, uint64_t counter, uint64_t n);

/// Which rows of a batch are at hand: a micro-batch, or what one rank has.
struct BatchRows {
  uint64_t first = 0, count = 1, batch = 1;
  bool all() const { return count == batch; }
};

/// A place in a Philox stream. Ops that draw n numbers reserve them; replaying the offset replays
/// the numbers.
class Generator {
 public:
  explicit Generator(uint64_t seed = 0, uint64_t offset = 0, const BatchRows& rows = {})
      : seed_(seed), offset_(offset), rows_(rows) {}
  uint64_t seed() const { return seed_; }
  uint64_t offset() const { return offset_; }  ///< in blocks of four numbers
  /// Reserves room for `count` 32-bit numbers; returns the first block's counter. Numbers that
  /// belong to rows (their count is a multiple of the rows', row after row) are reserved for the
  /// whole batch, and those of the rows at hand returned: a row draws the same however the batch is
  /// split. (If a row's numbers are no multiple of four, a block cannot begin at every row, and what
  /// rows draw depends on the split; they never share numbers.)
  uint64_t reserve(uint64_t count) {
    const uint64_t first = offset_;
    if (rows_.all() || count % rows_.count != 0) {
      offset_ += (count + 3) / 4;
      return first;
    }
    const uint64_t row_blocks = (count / rows_.count + 3) / 4;
    offset_ += row_blocks * rows_.batch;
    return first + row_blocks * rows_.first;
  }
  uint32_t next_u32();                                             ///< one number, one block
  double uniform();                                                ///< [0, 1) with 53 bits
  uint64_t below(uint64_t n);                                      ///< uniform in 0..n-1, unbiased
  Tensor normal(const Shape&, double mean, double stddev, DType);  ///< Box-Muller, CPU
  Tensor uniform(const Shape&, double low, double high, DType);

 private:
  uint64_t seed_, offset_;
  BatchRows rows_;
};

/// The generator that dropout draws from on this thread. A trainer seeds it; a checkpoint holds its
/// place.
Generator& default_generator();

/// An independent seed for purpose `stream` of a run seeded with `seed` (weights, data order,
/// dropout, sampling...).
uint64_t derive_seed(uint64_t seed, uint64_t stream);

}  // namespace reverie
