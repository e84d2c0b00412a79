#pragma once
/// Vectors of the widest kind that the instruction set has, as GCC vector extensions: + - * / act on
/// all lanes.

#include <cstdint>

#include "core/host_device.h"
#include "kernels/fmath.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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
template <>
struct VectorOf<uint32_t> {
  typedef uint32_t type __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));
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

template <class T>
REVERIE_INLINE Vector<T> splat(T x) {
  return Vector<T>{} + x;
}
/// 0, 1, 2, .. in integers as wide as T.
template <class T>
struct IndexOf;
template <>
struct IndexOf<float> {
  typedef int32_t scalar;
  typedef int32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct IndexOf<double> {
  typedef int64_t scalar;
  typedef int64_t type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Index = typename IndexOf<T>::type;
template <class T>
REVERIE_INLINE Index<T> lane_numbers() {
  Index<T> numbers;
  for (int i = 0; i < kLanes<T>; ++i) numbers[i] = i;
  return numbers;
}
/// Lanes where the mask (a comparison of vectors) is true come from `yes`.
template <class T, class Mask>
REVERIE_INLINE Vector<T> choose_lanes(Mask mask, Vector<T> yes, Vector<T> no) {
  return mask ? yes : no;
}
/// f of each lane, where f is written for numbers (fmath.h).
template <class T, class F>
REVERIE_INLINE Vector<T> map_lanes(Vector<T> v, const F& f) {
  T lanes[kLanes<T>];
  store(lanes, v);
#pragma omp simd
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = f(lanes[i]);
  return load(lanes);
}
template <class T>
REVERIE_INLINE Vector<T> exp_falling_lanes(Vector<T> v) {
  return map_lanes<T>(
      v, [](T x) __attribute__((always_inline)) { return fmath::exp_falling(x); });
}
template <class T>
REVERIE_INLINE Vector<T> exp2_falling_lanes(Vector<T> v) {
  return map_lanes<T>(
      v, [](T x) __attribute__((always_inline)) { return fmath::exp2_falling(x); });
}
/// For x[0], .. x[n - 1] in vectors, n >= lanes: body(vector, i, lanes that are new). The last
/// vector overlaps the one before where n is no multiple of the lanes; it is read first, so that the
/// body may write its result over x.
template <class T, class Body>
REVERIE_INLINE void over_vectors(const T* x, int64_t n, const Body& body) {
  const int64_t rest = n % kLanes<T>;
  const Vector<T> last = load(x + n - kLanes<T>);
  for (int64_t i = 0; i + kLanes<T> <= n; i += kLanes<T>) body(load(x + i), i, int64_t(kLanes<T>));
  if (rest > 0) body(last, n - kLanes<T>, rest);
}
/// Lane i is lane i + by of v, counted in a circle.
template <class T>
REVERIE_INLINE Vector<T> turned_lanes(Vector<T> v, int by) {
#if defined(__clang__)
  Vector<T> turned;
  for (int i = 0; i < kLanes<T>; ++i) turned[i] = v[(i + by) % kLanes<T>];
  return turned;
#else
  return __builtin_shuffle(v, (lane_numbers<T>() + by) % kLanes<T>);
#endif
}
/// All lanes in one, by halves: a short chain of dependent operations, in registers.
template <class T, class Combine>
REVERIE_INLINE T fold_lanes(Vector<T> v, const Combine& combine) {
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half > 0; half /= 2) v = combine(v, turned_lanes<T>(v, half));
  return v[0];
}
template <class T>
REVERIE_INLINE T sum_lanes(Vector<T> v) {
  return fold_lanes<T>(v, [](Vector<T> a, Vector<T> b) { return a + b; });
}
template <class T>
REVERIE_INLINE T largest_lane(Vector<T> v) {
  return fold_lanes<T>(v, [](Vector<T> a, Vector<T> b) { return choose_lanes<T>(b > a, b, a); });
}

/// Sum over i < n of term(at, i), which reads with at(pointer + i): whole vectors in four
/// independent sums, then single numbers.
template <class T>
struct WholeVectors {
  REVERIE_INLINE Vector<T> operator()(const T* p) const { return load(p); }
};
template <class T>
struct SingleNumbers {
  REVERIE_INLINE T operator()(const T* p) const { return *p; }
};
template <class T, class Term>
REVERIE_INLINE T sum_terms(int64_t n, const Term& term) {
  constexpr int64_t kWidth = kLanes<T>;
  Vector<T> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) sums[part] += term(WholeVectors<T>{}, i + part * kWidth);
  }
  for (; i + kWidth <= n; i += kWidth) sums[0] += term(WholeVectors<T>{}, i);
  T total = sum_lanes<T>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < n; ++i) total += term(SingleNumbers<T>{}, i);
  return total;
}

/// 64-bit lanes, and the products of their low halves.
typedef uint64_t Words __attribute__((vector_size(kVectorBytes)));
inline constexpr int kWordLanes = kVectorBytes / 8;
REVERIE_INLINE Words multiply_low_halves(Words a, Words b) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/// Lanes of a and b by number: 0 .. lanes - 1 are a's, lanes .. 2 lanes - 1 are b's.
template <int kHalf, bool kUpper, class T>
REVERIE_INLINE Vector<T> exchange(Vector<T> a, Vector<T> b) {
  // Lower: blocks of kHalf lanes alternate a's even blocks and b's even blocks; upper: the odd
  // ones.
  constexpr int n = kLanes<T>, u = kUpper ? kHalf : 0;
#define REVERIE_LANE(i) ((i)&kHalf ? n + (i)-kHalf + u : (i) + u)
  if constexpr (n == 2) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1));
  } else if constexpr (n == 4) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2),
                                   REVERIE_LANE(3));
  } else if constexpr (n == 8) {
    return __builtin_shufflevector(a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2),
                                   REVERIE_LANE(3), REVERIE_LANE(4), REVERIE_LANE(5),
                                   REVERIE_LANE(6), REVERIE_LANE(7));
  } else {
    return __builtin_shufflevector(
        a, b, REVERIE_LANE(0), REVERIE_LANE(1), REVERIE_LANE(2), REVERIE_LANE(3), REVERIE_LANE(4),
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
/// to[k * to_row + j] = from[j * from_row + k] for one square of lanes x lanes: quadrants are
/// exchanged, then quadrants of those.
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
