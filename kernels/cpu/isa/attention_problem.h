#pragma once
/// Shared by attention.cpp and attention_bf16.cpp: which keys a query sees, and how work is cut.

#include <initializer_list>
#include <limits>

#include "kernels/attention.h"
#include "kernels/cpu/isa/attention_tiles.h"
#include "kernels/cpu/isa/dropout.h"

namespace reverie::cpu::REVERIE_ISA {

struct Problem {
  int64_t batch, queries, keys, heads, kv_heads, dim, group, first, window;
  bool drops;
  DropoutStream dropout;

  /// Query i sees keys [lowest(i), first + i].
  int64_t lowest(int64_t i) const { return larger<int64_t>(0, first + i - window + 1); }
  int64_t first_block(int64_t i) const { return lowest(i) / kBlock * kBlock; }
  /// Queries from here on see nothing of the keys before `key`.
  int64_t beyond(int64_t key) const { return key - 1 + window - first; }
  /// Whether query i's own position is in the block of keys at k0: true in one block only.
  bool on_diagonal(int64_t i, int64_t k0) const {
    return first + i >= k0 && first + i < k0 + kBlock;
  }
  Span span(int64_t i, int64_t k0, int64_t block) const {
    return span_of(first + i - window + 1, first + i + 1, k0, block);
  }
};
static inline Problem problem_of(const View& query, const View& key, const AttentionOptions& o) {
  return {.batch = query.size[0],
          .queries = query.size[1],
          .keys = key.size[1],
          .heads = query.size[2],
          .kv_heads = key.size[2],
          .dim = query.size[3],
          .group = query.size[2] / key.size[2],
          .first = o.first_position,
          .window = o.window > 0 ? smaller(o.window, key.size[1]) : key.size[1],
          .drops = o.dropout_p > 0,
          .dropout = dropout_stream(o.dropout_p, o.seed, o.offset)};
}
inline constexpr int64_t kDropoutRoom = kBlock + kDropoutSlack;

/// Number of the first probability of row i of head h.
static inline uint64_t dropout_number(const Problem& p, int64_t b, int64_t h, int64_t i) {
  return (uint64_t(b * p.heads + h) * uint64_t(p.queries) + uint64_t(i)) * uint64_t(p.keys);
}

/// Tasks of the forward pass: heads, and where there are few of them, runs of queries within.
struct ForwardCuts {
  int64_t size, count;
};
static inline ForwardCuts forward_cuts(const Problem& p) {
  const int64_t size = p.batch * p.heads >= 32
                           ? p.queries
                           : larger<int64_t>(4 * kBlock, round_up((p.queries + 7) / 8, kTileRows));
  return {size, (p.queries + size - 1) / size};
}

/// Rows of one head of a contiguous [B, T, H, D] tensor.
template <class T>
static inline Rows<T> contiguous_head(const View& v, const Problem& p, int64_t b, int64_t h) {
  return {pointer<T>(v) + (b * p.queries * p.heads + h) * p.dim, p.heads * p.dim};
}

inline constexpr int64_t kNoHead = std::numeric_limits<int64_t>::max();

/// Rows of one head lie a whole position apart, which no hardware prefetcher follows: two fifths of
/// the backward pass of a short context went into waiting for them. So each query in work asks for
/// its row, and its key's, of the next head.
template <class T>
class NextHead {
 public:
  /// The matrices [B, T, H, D] to ask for, by query and by key; `head` counts query heads over the
  /// batch; nothing is asked for behind the last one (kNoHead).
  NextHead(const Problem& p, int64_t head, std::initializer_list<const View*> by_query,
           std::initializer_list<const View*> by_key)
      : dim_(p.dim) {
    const int64_t matrices = int64_t(by_query.size() + by_key.size());
    if (head >= p.batch * p.heads || matrices * p.queries * p.dim * int64_t(sizeof(T)) > kMostBytes)
      return;
    const int64_t b = head / p.heads, h = head % p.heads;
    for (const View* v : by_query) rows_[count_++] = head_rows<T>(*v, b, h);
    for (const View* v : by_key) rows_[count_++] = head_rows<T>(*v, b, h / p.group).from(p.first);
  }
  /// Inlined by force: GCC 12 takes a function of prefetches alone for one without effects, and
  /// drops calls of it.
  REVERIE_INLINE void prefetch(int64_t query) const {
    constexpr int64_t kLine = 64 / int64_t(sizeof(T));
    for (int m = 0; m < count_; ++m)
      for (int64_t d = 0; d < dim_; d += kLine) __builtin_prefetch(rows_[m][query] + d, 0, 2);
  }

 private:
  /// About half of a second-level cache: beyond it, rows would be gone again before their use.
  static constexpr int64_t kMostBytes = 512 << 10;
  Rows<T> rows_[8];
  int count_ = 0;
  int64_t dim_;
};

/// The online softmax of queries [begin, begin + count) of one head, over blocks of keys: what is
/// around the products, which attention.cpp and attention_bf16.cpp each have of their own.
template <class T>
struct SoftmaxOfRows {
  const Problem& p;
  T cap;
  int64_t b, h, begin;
  Rows<T> output;
  T *tops, *totals, *factors;  ///< [count], [count], [kDropoutRoom]

  void start(int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      tops[i] = kLowest<T>;
      totals[i] = 0;
    }
  }
  /// Scores of query i against the `most` first keys of the block at k0 -> weights, dropped where
  /// dropout says so; the output of earlier blocks is scaled to the new top. `padded`: whole vectors.
  /// fresh: there is none.
  REVERIE_INLINE void weigh(T* row, int64_t i, int64_t k0, int64_t block, int64_t most,
                            int64_t padded, bool fresh) const {
    if (cap > T(0)) cap_scores(row, padded, cap);
    const T correction =
        online_softmax(row, p.span(i, k0, block), padded, tops[i - begin], totals[i - begin]);
    if (!fresh && correction != T(1)) {
      T* out = output[i];
#pragma omp simd
      for (int64_t d = 0; d < p.dim; ++d) out[d] *= correction;
    }
    if (p.drops) {
      const T* factor =
          draw_dropout(p.dropout, dropout_number(p, b, h, i) + uint64_t(k0), most, factors);
#pragma omp simd
      for (int64_t j = 0; j < most; ++j) row[j] *= factor[j];
    }
  }
  void finish(int64_t count, T* log_sum_exp) const {
    for (int64_t i = 0; i < count; ++i) {
      const T inverse = T(1) / totals[i];
      T* out = output[begin + i];
#pragma omp simd
      for (int64_t d = 0; d < p.dim; ++d) out[d] *= inverse;
      log_sum_exp[begin + i] = tops[i] + fmath::log(totals[i]);
    }
  }
};

template <class T>
static inline void clear(Rows<T> rows, int64_t begin, int64_t end, int64_t dim) {
  for (int64_t i = begin; i < end; ++i)
    for (int64_t d = 0; d < dim; ++d) rows[i][d] = 0;
}

}  // namespace reverie::cpu::REVERIE_ISA
