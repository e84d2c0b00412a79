#pragma once
/// Register tiles of matrix products: the heart of matmul.cpp and attention.cpp.

#include <type_traits>

#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/isa/simd.h"

namespace reverie::cpu::REVERIE_ISA {

// Rows of a tile: with two vectors of columns, as many accumulators as leave registers for two of b
// and one of a.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 12;
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;
#else
inline constexpr int kTileRows = 4;
#endif
inline constexpr int kTileVectors = 2;
template <class T>
inline constexpr int kTileColumns = kTileVectors* kLanes<T>;

/// A matrix read one element at a time: element (i, k) at data[i * row + k * step].
template <class T>
struct Left {
  const T* data;
  int64_t row, step;
};

/// total[i][v] += sum over k < depth of a(i, k) * b[k * b_row + v * lanes ..].
template <int kRows, int kVectors, class T>
REVERIE_INLINE void multiply_tile(int64_t depth, Left<T> a, const T* b, int64_t b_row,
                                  Vector<T> (&total)[kRows][kVectors]) {
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + k * b_row + v * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const T left = a.data[i * a.row + k * a.step];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[i][v] += left * right[v];
    }
  }
}

/// The panel that multiply_tile reads, from a transposed matrix: to[k * kTileColumns + j] = from[j *
/// from_row + k] for k < depth, j < count <= kTileColumns, and zeros for the rest of the panel.
template <class T>
static inline void pack_transposed(const T* from, int64_t from_row, int64_t count, int64_t depth,
                                   T* to) {
  constexpr int64_t kWidth = kTileColumns<T>, kSquare = kLanes<T>;
  for (int64_t j = 0; j < kWidth; j += kSquare) {
    int64_t k = 0;
    if (j + kSquare <= count)
      for (; k + kSquare <= depth; k += kSquare)
        transpose_square(from + j * from_row + k, from_row, to + k * kWidth + j, kWidth);
    for (; k < depth; ++k)
      for (int64_t l = j; l < j + kSquare; ++l)
        to[k * kWidth + l] = l < count ? from[l * from_row + k] : T(0);
  }
}

/// How a product meets what is in c.
enum class Into : uint8_t { overwrite, add };

/// to [rows, columns] = or += from [rows, width]: the columns of a tile that is cut by an edge.
template <class T>
[[gnu::noinline]] static void store_columns(const T* from, int rows, int64_t width, Into into,
                                            T* to, int64_t to_row, int64_t columns) {
  for (int i = 0; i < rows; ++i, from += width, to += to_row)
    for (int64_t j = 0; j < columns; ++j) to[j] = into == Into::add ? to[j] + from[j] : from[j];
}

/// c [kRows, columns] = or += alpha * total, of which the first `columns` are wanted.
template <bool kScaled, int kRows, int kVectors, class T>
REVERIE_INLINE void store_tile_as(const Vector<T> (&total)[kRows][kVectors], T alpha, Into into,
                                  T* c, int64_t c_row) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    T* to = c + i * c_row;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> value = total[i][v];
      if constexpr (kScaled) value *= alpha;
      if (into == Into::add) value += load(to + v * kLanes<T>);
      store(to + v * kLanes<T>, value);
    }
  }
}

template <int kRows, int kVectors, class T>
REVERIE_INLINE void store_tile(const Vector<T> (&total)[kRows][kVectors], T alpha, Into into, T* c,
                               int64_t c_row, int64_t columns) {
  constexpr int64_t kWidth = kVectors * kLanes<T>;
  if (columns < kWidth) {
    T spill[kRows * kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        store(spill + i * kWidth + v * kLanes<T>, alpha * total[i][v]);
    store_columns(spill, kRows, kWidth, into, c, c_row, columns);
  } else if (alpha == T(1)) {
    store_tile_as<false, kRows, kVectors>(total, alpha, into, c, c_row);
  } else {
    store_tile_as<true, kRows, kVectors>(total, alpha, into, c, c_row);
  }
}

/// c [rows, columns] = or += alpha * a b for one tile of kRows rows; b holds kVectors vectors of
/// columns in each of its rows, of which the first `columns` are wanted.
template <int kRows, int kVectors, class T>
REVERIE_INLINE void inline_product_tile(int64_t depth, Left<T> a, const T* b, int64_t b_row,
                                        T alpha, Into into, T* c, int64_t c_row, int64_t columns) {
  Vector<T> total[kRows][kVectors] = {};
  multiply_tile<kRows, kVectors>(depth, a, b, b_row, total);
  store_tile(total, alpha, into, c, c_row, columns);
}
/// Tiles at edges are functions of their own: inlined into each caller, all sizes together took a
/// minute to compile. Whole tiles are where the time goes, and are inlined.
template <int kRows, int kVectors, class T>
[[gnu::noinline]] static void product_tile(int64_t depth, Left<T> a, const T* b, int64_t b_row,
                                           T alpha, Into into, T* c, int64_t c_row,
                                           int64_t columns) {
  inline_product_tile<kRows, kVectors>(depth, a, b, b_row, alpha, into, c, c_row, columns);
}

/// body(std::integral_constant<int, rows>) for rows in 1 .. kMost: whole tiles are asked for first.
template <int kMost = kTileRows, class Body>
REVERIE_INLINE void with_rows(int64_t rows, const Body& body) {
  if (rows == kMost) return body(std::integral_constant<int, kMost>{});
  if constexpr (kMost > 1) with_rows<kMost - 1>(rows, body);
}

/// c [rows, columns] = or += alpha * a b, rows <= kTileRows, columns <= kTileColumns. Rows of b are
/// read in whole vectors.
template <class T>
static inline void product(int64_t rows, int64_t depth, Left<T> a, const T* b, int64_t b_row,
                           T alpha, Into into, T* c, int64_t c_row, int64_t columns) {
  if (rows == kTileRows && columns > kLanes<T>)
    return inline_product_tile<kTileRows, 2>(depth, a, b, b_row, alpha, into, c, c_row, columns);
  with_rows(rows, [&](auto count) {
    if (columns > kLanes<T>)
      product_tile<count.value, 2>(depth, a, b, b_row, alpha, into, c, c_row, columns);
    else
      product_tile<count.value, 1>(depth, a, b, b_row, alpha, into, c, c_row, columns);
  });
}

}  // namespace reverie::cpu::REVERIE_ISA
