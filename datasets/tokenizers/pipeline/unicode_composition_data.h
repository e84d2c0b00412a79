#pragma once
/// The tables behind unicode_composition.h, each in rising order of code points.

#include <cstddef>
#include <cstdint>

namespace reverie::unicode_data {

struct CombiningRange {
  uint32_t first, last;
  uint8_t combining_class;
};
struct Decomposition {       ///< full and canonical
  uint32_t whole, parts[4];  ///< zeros behind
};
struct Composition {
  uint32_t first, second, whole;
};

extern const CombiningRange combining_ranges[];
extern const size_t combining_range_count;
extern const Decomposition decompositions[];
extern const size_t decomposition_count;
extern const Composition compositions[];
extern const size_t composition_count;

}  // namespace reverie::unicode_data
