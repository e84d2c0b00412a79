#pragma once
/// Skinny GEMM: products of few rows with a matrix, as in decoding. They are bound by memory: the matrix is read
/// once, as it lies, in long runs, by all threads.

#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/isa/simd.h"

namespace reverie::cpu::REVERIE_ISA {

/// c [m, n] = alpha * a b (+ c): a(i, x) at a[i * a_row + x]; b is of T, or of uint16_t (bf16), and
/// its lines are `b_line` apart: rows [k, n], or where it lies transposed columns [n, k].
template <class T, class W>
struct SkinnyGemm {
  int64_t m, n, k;
  const T* a = nullptr;
  int64_t a_row = 0;
  const W* b;
  int64_t b_line = 0;
  T* c;
  int64_t c_row;
  T alpha;
  bool accumulate;
};

template <class T>
REVERIE_INLINE Vector<T> load_as(const T* p) {
  return load(p);
}
template <class T>
REVERIE_INLINE T as(T x) {
  return x;
}
/// bf16 is the upper half of an f32.
typedef uint16_t HalfLanes __attribute__((vector_size(kVectorBytes / 2), aligned(2)));
typedef uint32_t FullLanes __attribute__((vector_size(kVectorBytes)));
template <class T>
REVERIE_INLINE Vector<T> load_as(const uint16_t* p) {
  return (Vector<T>)(__builtin_convertvector(*reinterpret_cast<const HalfLanes*>(p), FullLanes)
                     << 16);
}
template <class T>
REVERIE_INLINE T as(uint16_t x) {
  return __builtin_bit_cast(T, uint32_t(x) << 16);
}

/// Fetches what is read next into the second-level cache, in the order in which it lies: lines of
/// memory asked for in any other order come at half the speed. `lines` runs of `width`, each
/// `line` after the one before it.
template <class W>
class Ahead {
 public:
  REVERIE_INLINE Ahead(const W* begin, int64_t width, int64_t line)
      : at_(begin), end_(begin + width), width_(width), line_(line) {}
  /// As much as kVectors of the widest vectors of W's values read.
  template <int kBytes>
  REVERIE_INLINE void fetch() {
#pragma GCC unroll 8
    for (int i = 0; i < kBytes; i += kLine) {
      __builtin_prefetch(at_, 0, 2);
      at_ += kLine / int(sizeof(W));
    }
    if (at_ >= end_) {
      at_ += line_ - width_;
      end_ += line_;
    }
  }

 private:
  static constexpr int kLine = 64;  ///< bytes
  const W *at_, *end_;
  int64_t width_, line_;
};

template <class T, class W>
REVERIE_INLINE void put(const SkinnyGemm<T, W>& p, int64_t i, int64_t j, T sum) {
  T& to = p.c[i * p.c_row + j];
  to = p.accumulate ? to + p.alpha * sum : p.alpha * sum;
}

// ---- b transposed: an element is the dot product of two runs ---------------------------------
/// Columns whose dot products are taken side by side.
inline constexpr int kColumns = 4;

/// Lanes of a, then those of b, in blocks of 2 kHalf lanes whose halves are added.
template <int kHalf, class T>
REVERIE_INLINE Vector<T> add_halves(Vector<T> a, Vector<T> b) {
  return exchange<kHalf, false, T>(a, b) + exchange<kHalf, true, T>(a, b);
}
/// sums[i] = sum_lanes(v[i]), to the bit; four at a time.
template <class T, int kCount>
REVERIE_INLINE void sum_lanes_of(const Vector<T> (&v)[kCount], T (&sums)[kCount]) {
  constexpr int n = kLanes<T>;
  int i = 0;
#pragma GCC unroll 2
  for (; i + 4 <= kCount; i += 4) {
    const Vector<T> first = add_halves<n / 2, T>(v[i], v[i + 1]),
                    second = add_halves<n / 2, T>(v[i + 2], v[i + 3]);
    T* to = sums + i;
    if constexpr (n == 2) {
      to[0] = first[0], to[1] = first[1], to[2] = second[0], to[3] = second[1];
    } else {
      Vector<T> all = add_halves<n / 4, T>(first, second);  // quarters: of 0, 2, 1, 3
      if constexpr (n >= 16) all = add_halves<n / 8, T>(all, all);
      if constexpr (n >= 8) all = add_halves<1, T>(all, all);
      to[0] = all[0], to[1] = all[n / 2], to[2] = all[n / 4], to[3] = all[3 * n / 4];
    }
  }
#pragma GCC unroll 4
  for (; i < kCount; ++i) sums[i] = sum_lanes<T>(v[i]);
}

/// Elements [row, row + kRows) x [j, j + kCount). Each is summed in the same order, whichever
/// others are beside it.
template <int kRows, int kCount, class T, class W>
REVERIE_INLINE void dot_products(const SkinnyGemm<T, W>& p, int64_t row, int64_t j, bool fetch) {
  const T* a = p.a + row * p.a_row;
  const W* b = p.b + j * p.b_line;
  Ahead<W> ahead(b + kCount * p.b_line, p.k, p.b_line);
  Vector<T> total[kRows * kCount] = {};
  int64_t x = 0;
  for (; x + kLanes<T> <= p.k; x += kLanes<T>) {
    Vector<T> right[kCount];
#pragma GCC unroll 4
    for (int column = 0; column < kCount; ++column)
      right[column] = load_as<T>(b + column * p.b_line + x);
    if (fetch) ahead.template fetch<kCount * kLanes<T>* int(sizeof(W))>();
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const Vector<T> left = load(a + i * p.a_row + x);
#pragma GCC unroll 4
      for (int column = 0; column < kCount; ++column)
        total[i * kCount + column] += left * right[column];
    }
  }
  T sums[kRows * kCount];
  sum_lanes_of<T>(total, sums);
  for (int i = 0; i < kRows; ++i)
    for (int column = 0; column < kCount; ++column) {
      T& sum = sums[i * kCount + column];
      for (int64_t rest = x; rest < p.k; ++rest)
        sum += a[i * p.a_row + rest] * as<T>(b[column * p.b_line + rest]);
      put(p, row + i, j + column, sum);
    }
}
template <int kCount, class T, class W>
static inline void dot_columns(const SkinnyGemm<T, W>& p, int64_t j) {
  int64_t row = 0;
  for (; row + 4 <= p.m; row += 4) dot_products<4, kCount>(p, row, j, row == 0);
  switch (p.m - row) {
    case 3:
      return dot_products<3, kCount>(p, row, j, row == 0);
    case 2:
      return dot_products<2, kCount>(p, row, j, row == 0);
    case 1:
      return dot_products<1, kCount>(p, row, j, row == 0);
  }
}

template <class T, class W>
static void skinny_gemm_transposed(const SkinnyGemm<T, W>& p) {
  constexpr int64_t kBlock = 16 * kColumns;
  for_each((p.n + kBlock - 1) / kBlock, kBlock * p.k, [&](int64_t block) {
    int64_t j = block * kBlock;
    const int64_t end = smaller(p.n, j + kBlock);
    // One row with short columns: the hardware reads a single run best by itself. Long columns
    // want several sums at once, as does arithmetic where there are more rows.
    constexpr int64_t kShort = 1024;
    if (p.m > 1 || p.k > kShort)
      for (; j + kColumns <= end; j += kColumns) dot_columns<kColumns>(p, j);
    for (; j < end; ++j) {
      if (p.m == 1)
        dot_products<1, 1>(p, 0, j, false);
      else
        dot_columns<1>(p, j);
    }
  });
}

// ---- b as rows: multiples of its rows are added up -------------------------------------------
/// Rows of b that are added at a time, and parts into which all are cut: fixed, so that sums do not
/// depend on the number of threads. A part is read from beginning to end.
inline constexpr int kGroup = 8;
inline constexpr int64_t kParts = 8;

/// sums[i][j] += a(i, x) * b(x, begin + j), j < width, for kCount rows x from `x` on.
template <int kCount, class T, class W>
REVERIE_INLINE void add_rows(const SkinnyGemm<T, W>& p, int64_t x, int64_t begin, int64_t width,
                             T* sums, int64_t sums_row) {
  const T* a = p.a + x;
  const W* b = p.b + x * p.b_line + begin;
  Ahead<W> ahead(b + kCount * p.b_line, width, p.b_line);
  int64_t j = 0;
  for (; j + kLanes<T> <= width; j += kLanes<T>) {
    Vector<T> right[kCount];
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) right[r] = load_as<T>(b + r * p.b_line + j);
    ahead.template fetch<kCount * kLanes<T>* int(sizeof(W))>();
    for (int64_t i = 0; i < p.m; ++i) {
      Vector<T> sum = load(sums + i * sums_row + j);
#pragma GCC unroll 8
      for (int r = 0; r < kCount; ++r) sum += a[i * p.a_row + r] * right[r];
      store(sums + i * sums_row + j, sum);
    }
  }
  for (; j < width; ++j)
    for (int64_t i = 0; i < p.m; ++i) {
      T sum = sums[i * sums_row + j];
      for (int r = 0; r < kCount; ++r) sum += a[i * p.a_row + r] * as<T>(b[r * p.b_line + j]);
      sums[i * sums_row + j] = sum;
    }
}

template <class T, class W>
static void skinny_gemm_row_major(const SkinnyGemm<T, W>& p) {
  constexpr int64_t kWidth = 4096;  // columns whose sums stay in the second-level cache
  const int64_t parts = smaller<int64_t>(kParts, (p.k + kGroup - 1) / kGroup),
                groups = (p.k + kGroup - 1) / kGroup;
  for (int64_t begin = 0; begin < p.n; begin += kWidth) {
    const int64_t width = smaller(kWidth, p.n - begin);
    // Rows of sums are a line more than a power of two apart at least: they share no cache set.
    const int64_t sums_row =
                      (width + kLanes<T> - 1) / kLanes<T> * kLanes<T> + 64 / int64_t(sizeof(T)),
                  part_size = p.m * sums_row;
    T* sums = static_cast<T*>(scratch(Slot::shared_third, size_t(parts * part_size) * sizeof(T)));
    for_each(parts, width * p.k / parts, [&](int64_t part) {
      T* own = sums + part * part_size;
      for (int64_t i = 0; i < part_size; ++i) own[i] = 0;
      int64_t x = part * groups / parts * kGroup;
      const int64_t end = smaller(p.k, (part + 1) * groups / parts * kGroup);
      for (; x + kGroup <= end; x += kGroup) add_rows<kGroup>(p, x, begin, width, own, sums_row);
      for (; x < end; ++x) add_rows<1>(p, x, begin, width, own, sums_row);
    });
    for_each(p.m, width * parts, [&](int64_t i) {
      T* total = sums + i * sums_row;
      for (int64_t part = 1; part < parts; ++part)
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) total[j] += total[part * part_size + j];
      for (int64_t j = 0; j < width; ++j) put(p, i, begin + j, total[j]);
    });
  }
}

}  // namespace reverie::cpu::REVERIE_ISA
