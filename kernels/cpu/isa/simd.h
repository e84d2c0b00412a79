#pragma once
// Vectors of the widest kind that the instruction set has, as GCC vector extensions: + - * / act on all lanes.

#include <cstdint>

#include "core/host_device.h"

namespace reverie::cpu::REVERIE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double unaligned __attribute__((vector_size(kVectorBytes), aligned(8)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
inline constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
REVERIE_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(p);
}
template <class T>
REVERIE_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(p) = v;
}

// Lanes of a and b by number: 0 .. lanes - 1 are a's, lanes .. 2 lanes - 1 are b's.
template <int kHalf, bool kUpper, class T>
REVERIE_INLINE Vector<T> exchange(Vector<T> a, Vector<T> b) {
  // Lower: blocks of kHalf lanes alternate a's even blocks and b's even blocks; upper: the odd ones.
  constexpr int n = kLanes<T>, u = kUpper ? kHalf : 0;
#define REVERIE_LANE(i) ((i) & kHalf ? n + (i) - kHalf + u : (i) + u)
  if constexpr (n == 2) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1));
  } else if constexpr (n == 4) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2), REVERIE_LANE(3));
  } else if constexpr (n == 8) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2), REVERIE_LANE(3), REVERIE_LANE(4),
                                   REVERIE_LANE(5), REVERIE_LANE(6), REVERIE_LANE(7));
  } else {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2), REVERIE_LANE(3), REVERIE_LANE(4),
                                   REVERIE_LANE(5), REVERIE_LANE(6), REVERIE_LANE(7), REVERIE_LANE(8), REVERIE_LANE(9),
                                   REVERIE_LANE(10), REVERIE_LANE(11), REVERIE_LANE(12), REVERIE_LANE(13), REVERIE_LANE(14),
                                   REVERIE_LANE(15));
  }
#undef REVERIE_LANE
}
template <int kHalf, class T>
REVERIE_INLINE void exchange_rows(Vector<T> (&rows)[kLanes<T>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i & kHalf) continue;
    const Vector<T> a = rows[i], b = rows[i + kHalf];
    rows[i] = exchange<kHalf, false, T>(a, b);
    rows[i + kHalf] = exchange<kHalf, true, T>(a, b);
  }
  if constexpr (kHalf > 1) exchange_rows<kHalf / 2, T>(rows);
}
// to[k * to_row + j] = from[j * from_row + k] for one square of lanes x lanes: quadrants are exchanged, then quadrants of those.
template <class T>
REVERIE_INLINE void transpose_square(const T* from, int64_t from_row, T* to, int64_t to_row) {
  Vector<T> rows[kLanes<T>];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes<T>; ++j) rows[j] = load(from + j * from_row);
  exchange_rows<kLanes<T> / 2, T>(rows);
#pragma GCC unroll 16
  for (int k = 0; k < kLanes<T>; ++k) store(to + k * to_row, rows[k]);
}

}  // namespace reverie::cpu::REVERIE_ISA
