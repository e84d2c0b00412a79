#pragma once
/// A list of keys in panels, and its two products with a tile of rows that lie side by side in the
/// lanes of vectors: the scores of rows and keys, and sums of keys that scores weigh.

#include "kernels/cpu/isa/attention_tiles.h"

namespace reverie::cpu::REVERIE_ISA {

/// A tile of rows stands in the lanes of two vectors.
template <class T>
inline constexpr int64_t kTileLanes = kTileColumns<T>;

// Keys, or numbers of a key, that a product takes at once: with two vectors of rows their sums stay
// in registers. Divides the lanes of a vector.
#if defined(__AVX512F__)
template <class T>
inline constexpr int64_t kKeyStep = 8;
#else
template <class T>
inline constexpr int64_t kKeyStep = kLanes<T> < 4 ? kLanes<T> : 4;
#endif

/// Key i is in lane i % lanes of panel i / lanes; a panel is [depth, lanes], with depth the size of
/// a head rounded up to whole steps. So both products read single numbers at distances that the
/// compiler knows. What is no number of a key is 0.
template <class T>
struct KeyPanels {
  T* data;
  int64_t depth;

  static int64_t depth_of(int64_t dim) { return round_up(dim, kKeyStep<T>); }
  static int64_t size(int64_t count, int64_t dim) {
    return round_up(count, kLanes<T>) * depth_of(dim);
  }
  /// The number 0 of a key; lanes behind it hold the keys that follow, up to the panel's end.
  const T* at(int64_t key) const {
    return data + key / kLanes<T> * kLanes<T> * depth + key % kLanes<T>;
  }
};

/// [rows, columns <= lanes] between rows, which lie anywhere, and a square of vectors.
template <class T>
REVERIE_INLINE void copy_short(const T* from, int64_t count, T* to) {
  constexpr int64_t kHalf = kLanes < T >> 1 ? kLanes<T> / 2 : 1;
  if (count == kLanes<T>) return store(to, load(from));
  for (; count >= kHalf; count -= kHalf, from += kHalf, to += kHalf)
#pragma GCC unroll 8
    for (int64_t d = 0; d < kHalf; ++d) to[d] = from[d];
  for (int64_t d = 0; d < count; ++d) to[d] = from[d];
}

/// Asks for a row of `dim` numbers before it is needed: rows of a head lie too far apart for the
/// hardware to see a stream in them. Callers must be inlined up to where something is written: gcc
/// drops calls of functions that do nothing else.
template <bool kToWrite, class T>
REVERIE_INLINE void prefetch_row(const T* row, int64_t dim) {
  constexpr uintptr_t kLine = 64;
  const auto begin = reinterpret_cast<uintptr_t>(row), end = begin + uintptr_t(dim) * sizeof(T);
  for (uintptr_t line = begin / kLine * kLine; line < end; line += kLine)
    __builtin_prefetch(reinterpret_cast<const void*>(line), kToWrite, 2);
}

/// Panels of `count` keys in `room`; row(i): where key i begins, asked for in order.
template <class T, class Row>
static inline KeyPanels<T> pack_keys(T* room, int64_t count, int64_t dim, Row row) {
  constexpr int64_t kSide = kLanes<T>;
  const KeyPanels<T> panels{room, KeyPanels<T>::depth_of(dim)};
  alignas(64) T square[kSide * kSide], turned[kSide * kSide];
  constexpr int64_t kAhead = 2 * kSide, kKnown = kAhead + kSide;
  const T* known[kKnown];
  const auto find = [&](int64_t i) {
    if (i >= count) return;
    known[i % kKnown] = row(i);
    prefetch_row<false>(known[i % kKnown], dim);
  };
  for (int64_t i = 0; i < kAhead; ++i) find(i);
  for (int64_t first = 0; first < count; first += kSide) {
    const T* rows[kSide];
    for (int64_t r = 0; r < kSide; ++r) {
      find(first + kAhead + r);
      rows[r] = first + r < count ? known[(first + r) % kKnown] : nullptr;
    }
    for (int64_t d = 0; d < panels.depth; d += kSide) {
      const int64_t width = smaller(kSide, larger<int64_t>(0, dim - d)),
                    kept = smaller(kSide, panels.depth - d);
      for (int64_t r = 0; r < kSide; ++r) {
        T* to = square + r * kSide;
        if (rows[r] == nullptr || width < kSide) store(to, Vector<T>{});
        if (rows[r] != nullptr) copy_short(rows[r] + d, width, to);
      }
      transpose_square(square, kSide, turned, kSide);
      for (int64_t k = 0; k < kept; ++k, room += kSide) store(room, load(turned + k * kSide));
    }
  }
  return panels;
}

/// finish(j, total) for steps of the keys from `first` on, where total[i][v] is the product of key
/// first + j + i with vector v of `rows` [dim, lanes]. `first` and `count` are whole steps.
template <int kVectors, class T, class Finish>
REVERIE_INLINE void multiply_keys(const KeyPanels<T>& keys, int64_t first, int64_t count,
                                  int64_t dim, const T* rows, const Finish& finish) {
  constexpr int kStep = int(kKeyStep<T>);
  for (int64_t j = 0; j < count; j += kStep) {
    const T* key = keys.at(first + j);
    Vector<T> total[kStep][kVectors] = {};
    for (int64_t d = 0; d < dim; ++d) {
      Vector<T> right[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) right[v] = load(rows + d * kTileLanes<T> + v * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < kStep; ++i) {
        const T left = key[d * kLanes<T> + i];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) total[i][v] += left * right[v];
      }
    }
    finish(j, total);
  }
}

/// to [depth, lanes] = correction * to + the keys from `first` on, each times its row of weights
/// [count, lanes]. `first` and `count` are whole steps.
template <int kVectors, class T>
REVERIE_INLINE void add_weighted(const KeyPanels<T>& keys, int64_t first, int64_t count,
                                 const T* weights, const Vector<T> (&correction)[kVectors], T* to) {
  constexpr int kStep = int(kKeyStep<T>);
  for (int64_t d = 0; d < keys.depth; d += kStep, to += kStep * kTileLanes<T>) {
    Vector<T> total[kStep][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kStep; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        total[i][v] = correction[v] * load(to + i * kTileLanes<T> + v * kLanes<T>);
    for (int64_t j = 0; j < count; j += kStep) {
      const T *key = keys.at(first + j) + d * kLanes<T>, *weight = weights + j * kTileLanes<T>;
#pragma GCC unroll 8
      for (int k = 0; k < kStep; ++k) {
        Vector<T> right[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v)
          right[v] = load(weight + k * kTileLanes<T> + v * kLanes<T>);
#pragma GCC unroll 8
        for (int i = 0; i < kStep; ++i) {
          const T left = key[i * kLanes<T> + k];
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) total[i][v] += left * right[v];
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kStep; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) store(to + i * kTileLanes<T> + v * kLanes<T>, total[i][v]);
  }
}

}  // namespace reverie::cpu::REVERIE_ISA
