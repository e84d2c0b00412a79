#pragma once
/// Orders of many things that take no memory.

#include <cstdint>

namespace reverie {

/// Where `place` stands in an order of 0 .. count - 1 that `seed` decides: a permutation, so that
/// places 0 .. count - 1 give every number once. place < count. A Feistel network over the next
/// power of 4, walked until it is below count (Black and Rogaway, "Ciphers with arbitrary finite
/// domains", CT-RSA 2002).
uint64_t seeded_place(uint64_t seed, uint64_t place, uint64_t count);

}  // namespace reverie
