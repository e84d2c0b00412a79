#include "datasets/seeded_order.h"

#include <bit>

#include "core/error.h"
#include "core/random.h"

namespace reverie {

namespace {

constexpr uint64_t kFeistelRounds = 6;

}  // namespace

uint64_t seeded_place(uint64_t seed, uint64_t place, uint64_t count) {
  if (place >= count) throw InternalError("a place behind the end of a seeded order");
  const int half = (std::bit_width(count - 1) + 1) / 2;  // bits; count 1 has none
  const uint64_t mask = (uint64_t(1) << half) - 1;
  do {
    uint64_t left = place >> half, right = place & mask;
    for (uint64_t round = 0; round < kFeistelRounds; ++round) {
      const uint64_t next = left ^ (philox(seed, round << 32 | right).v[0] & mask);
      left = right;
      right = next;
    }
    place = left << half | right;
  } while (place >= count);
  return place;
}

}  // namespace reverie
