#pragma once
/// Shared by attention.cpp and grouped_attention.cpp: tiles of scores, the online softmax and its
/// backward pass.

#include "kernels/cpu/isa/gemm_tiles.h"
#include "kernels/fmath.h"

namespace reverie::cpu::REVERIE_ISA {

/// Keys are taken in blocks of kBlock, queries in tiles of kTileRows: the scores of a tile against a
/// block never leave the first-level cache.
inline constexpr int64_t kBlock = 64;

template <class T>
inline constexpr T kLowest = sizeof(T) == 4 ? T(-3.0e38f) : T(-1.0e308);

static inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// Rows of `dim` numbers, of one head.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  T* operator[](int64_t row) const { return data + row * stride; }
  Rows from(int64_t row) const { return {data + row * stride, stride}; }
};
template <class T>
static inline Rows<T> head_rows(const View& v, int64_t batch, int64_t head) {
  return {pointer<T>(v) + batch * v.stride[0] + head * v.stride[2], v.stride[1]};
}

/// Working memory, carved up in order.
template <class T>
struct Arena {
  T* next;
  T* take(int64_t count) {
    T* here = next;
    next += round_up(count, 64 / int64_t(sizeof(T)));
    return here;
  }
};

/// Tiles read the rows of their right operand in whole vectors. Where `dim` is no multiple of that,
/// rows are copied to `room` and padded with zeros.
template <class T>
static inline Rows<T> whole_vectors(Rows<T> rows, int64_t count, int64_t dim, T* room) {
  const int64_t padded = round_up(dim, kLanes<T>);
  if (padded == dim) return rows;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t d = 0; d < dim; ++d) room[i * padded + d] = rows[i][d];
    for (int64_t d = dim; d < padded; ++d) room[i * padded + d] = 0;
  }
  return {room, padded};
}
template <class T>
static inline int64_t whole_vectors_size(int64_t count, int64_t dim) {
  return dim % kLanes<T> == 0 ? 0 : count * round_up(dim, kLanes<T>);
}

/// Transposed panels of `count` rows, to multiply by their transpose.
template <class T>
static inline void pack_rows(Rows<T> rows, int64_t count, int64_t dim, T* packed) {
  constexpr int64_t kWidth = kTileColumns<T>;
  for (int64_t j = 0; j < count; j += kWidth)
    pack_transposed(rows[j], rows.stride, smaller(kWidth, count - j), dim, packed + j * dim);
}

/// to [rows, columns rounded up to vectors] = alpha * left [rows, dim] times the packed rows; `to`
/// has rows of kBlock.
template <class T>
static inline void multiply_packed(int64_t rows, Rows<T> left, int64_t dim, const T* packed,
                                   int64_t columns, T alpha, T* to) {
  constexpr int64_t kWidth = kTileColumns<T>;
  for (int64_t j = 0; j < columns; j += kWidth)
    product(rows, dim, Left<T>{left.data, left.stride, 1}, packed + j * dim, kWidth, alpha,
            Into::overwrite, to + j, kBlock,
            smaller<int64_t>(kWidth, round_up(columns - j, kLanes<T>)));
}

/// to [rows, dim] = or += left [rows, depth] times right [depth, dim] (whole vectors).
template <class T>
static inline void multiply_rows(int64_t rows, int64_t depth, Left<T> left, Rows<T> right,
                                 int64_t dim, Into into, Rows<T> to) {
  constexpr int64_t kWidth = kTileColumns<T>;
  for (int64_t d = 0; d < dim; d += kWidth)
    product(rows, depth, left, right.data + d, right.stride, T(1), into, to.data + d, to.stride,
            smaller(kWidth, dim - d));
}

template <class T>
static inline T dot(const T* a, const T* b, int64_t n) {
  return sum_terms<T>(n, [=](auto at, int64_t i) { return at(a + i) * at(b + i); });
}

/// Scores become cap * tanh(score / cap): the soft-cap of Gemma 2.
template <class T>
static inline void cap_scores(T* scores, int64_t count, T cap) {
  const T inverse = T(1) / cap;
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) scores[j] = cap * fmath::tanh(scores[j] * inverse);
}

/// The keys of a block that a query sees: from `hidden` on and before `seen`.
struct Span {
  int64_t hidden, seen;
};
/// ... of the block's `count` keys from position k0 on, where it sees positions [lowest, end).
static inline Span span_of(int64_t lowest, int64_t end, int64_t k0, int64_t count) {
  const int64_t seen = larger<int64_t>(0, smaller(count, end - k0));
  return {larger<int64_t>(0, smaller(seen, lowest - k0)), seen};
}

template <bool kHides, class T>
REVERIE_INLINE T online_softmax_of(T* scores, Span span, int64_t padded, T& top, T& total) {
  constexpr int kWidth = kLanes<T>;
  using Number = typename IndexOf<T>::scalar;
  const Index<T> numbers = lane_numbers<T>();
  const auto visible = [=](int64_t j) {
    if constexpr (kHides)
      return (numbers < Number(span.seen - j)) & (numbers >= Number(span.hidden - j));
    else
      return numbers < Number(span.seen - j);
  };
  Vector<T> tops = splat(top), sums = {};
  for (int64_t j = 0; j < padded; j += kWidth) {
    const Vector<T> score = choose_lanes<T>(visible(j), load(scores + j), splat(kLowest<T>));
    tops = choose_lanes<T>(score > tops, score, tops);
  }
  const T highest = largest_lane<T>(tops);
  for (int64_t j = 0; j < padded; j += kWidth) {
    const Vector<T> weights = choose_lanes<T>(
        visible(j), exp_falling_lanes<T>(load(scores + j) - splat(highest)), Vector<T>{});
    store(scores + j, weights);
    sums += weights;
  }
  // Most blocks after a row's first few leave its top as it is.
  T correction = T(1);
  if (total <= T(0))
    correction = T(0);
  else if (highest > top)
    correction = fmath::exp(top - highest);
  top = highest;
  total = total * correction + sum_lanes<T>(sums);
  return correction;
}
/// One more block of scores for the online softmax of a row: scores [0, padded) become exp(score -
/// top), 0 outside the span. Returns what earlier sums and outputs of the row must be multiplied by.
/// `padded` is a multiple of the lanes.
template <class T>
static inline T online_softmax(T* scores, Span span, int64_t padded, T& top, T& total) {
  return span.hidden > 0 ? online_softmax_of<true>(scores, span, padded, top, total)
                         : online_softmax_of<false>(scores, span, padded, top, total);
}

/// Rows of the backward pass. Of one row: scaled scores become weights, and dL/dweights become
/// dL/d(query . key); both are 0 outside the span, as far as [0, count).
template <class T>
struct ScoreRow {
  T log_sum_exp, delta;  ///< delta = output . dL/doutput
  T scale, cap;          ///< cap 0: none
  const T* factor;       ///< of dropout
};
template <bool kCaps, bool kHides, class T>
REVERIE_INLINE void weigh_row_of(T* weight, T* grad_score, Span span, int count, ScoreRow<T> row) {
  const int hidden = int(span.hidden), seen = int(span.seen);
  const T log_sum_exp = row.log_sum_exp, delta = row.delta, scale = row.scale, cap = row.cap,
          inverse = kCaps ? T(1) / cap : T(0);
  const T* factor = row.factor;
#pragma omp simd
  for (int j = 0; j < count; ++j) {
    T score = weight[j], slope = scale;
    if constexpr (kCaps) {
      const T bend = fmath::tanh(score * inverse);
      score = cap * bend;
      slope = scale * (T(1) - bend * bend);
    }
    const T e = fmath::exp_falling(score - log_sum_exp), keep = factor[j];
    const T gradient = e * (keep * grad_score[j] - delta) * slope;
    const bool visible = kHides ? (j < seen) & (j >= hidden) : j < seen;
    weight[j] = visible ? e * keep : T(0);
    grad_score[j] = visible ? gradient : T(0);
  }
}
template <class T>
static inline void weigh_row(T* weight, T* grad_score, Span span, int count, ScoreRow<T> row) {
  if (row.cap > T(0))
    weigh_row_of<true, true>(weight, grad_score, span, count, row);
  else if (span.hidden > 0)
    weigh_row_of<false, true>(weight, grad_score, span, count, row);
  else
    weigh_row_of<false, false>(weight, grad_score, span, count, row);
}

}  // namespace reverie::cpu::REVERIE_ISA
