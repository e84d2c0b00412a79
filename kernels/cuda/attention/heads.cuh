#pragma once
// Shared by the attention kernels, in plain arithmetic and on tensor cores: rows of heads, who
// sees whom, what becomes of a product of query and key, and what queries bring to the backward
// pass.

#include "core/random.h"
#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

// With the least number of blocks of a multiprocessor said, ptxas spills nothing for the sake of
// more.
#define REVERIE_ATTENTION_BOUNDS __launch_bounds__(kAttentionThreads, 2)

namespace reverie::cuda {

inline constexpr int kWarps = 4, kAttentionThreads = kWarps * kWarpSize;
inline constexpr int64_t kLongestHead = 256;

// Rows of one head.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  __device__ T* operator[](int64_t row) const { return data + row * stride; }
};
// A [B, T, H, D] tensor; data may be null.
template <class T>
struct Heads {
  T* data;
  int64_t batch, row, head;
  __device__ Rows<T> rows(int64_t b, int64_t h) const { return {data + b * batch + h * head, row}; }
};
template <class T>
Heads<T> heads_of(const View& v) {
  return {pointer<T>(v), v.stride[0], v.stride[1], v.stride[2]};
}

// Query i sees keys first + i - window + 1 .. first + i.
struct Causal {
  int64_t first, window;
  __device__ bool sees(int64_t, int64_t i, int64_t j) const {
    return j <= first + i && j > first + i - window;
  }
  // Bounds of the keys that queries [begin, end) may see, and of the queries that may see keys
  // [begin, end), the first and one beyond the last, as far as bounds are at hand.
  __device__ int64_t first_key(int64_t, int64_t begin, int64_t) const {
    const int64_t lowest = first + begin - window + 1;
    return lowest < 0 ? 0 : lowest;
  }
  __device__ int64_t end_key(int64_t, int64_t, int64_t end, int64_t keys) const {
    return first + end < keys ? first + end : keys;
  }
  __device__ int64_t first_query(int64_t begin, int64_t) const {
    return begin > first ? begin - first : 0;
  }
  __device__ int64_t end_query(int64_t, int64_t end, int64_t queries) const {
    const int64_t beyond = end - 1 + window - first;
    return beyond < queries ? (beyond < 0 ? 0 : beyond) : queries;
  }
};
// Groups of `size` rows, the last `queries` of which ask: query i sees the rows of its group up to
// its own.
struct WithinGroup {
  int64_t queries, size, window;
  __device__ int64_t row_of(int64_t i) const {
    return i / queries * size + size - queries + i % queries;
  }
  __device__ bool sees(int64_t, int64_t i, int64_t j) const {
    const int64_t row = row_of(i);
    return j <= row && j > row - window && i / queries == j / size;
  }
  __device__ int64_t first_key(int64_t, int64_t begin, int64_t) const {
    return begin / queries * size;
  }
  __device__ int64_t end_key(int64_t, int64_t, int64_t end, int64_t keys) const {
    const int64_t beyond = row_of(end - 1) + 1;
    return beyond < keys ? beyond : keys;
  }
  __device__ int64_t first_query(int64_t begin, int64_t) const {
    const int64_t place = begin % size - (size - queries);
    return begin / size * queries + (place > 0 ? place : 0);
  }
  __device__ int64_t end_query(int64_t, int64_t end, int64_t count) const {
    const int64_t beyond = (end - 1) / size * queries + queries;
    return beyond < count ? beyond : count;
  }
};
// Such a query sees the first limits[b, group] keys of the context.
struct OfContext {
  int64_t queries, size, window, groups;
  const int32_t* limits;
  __device__ int64_t limit(int64_t b, int64_t i) const { return limits[b * groups + i / queries]; }
  __device__ bool sees(int64_t b, int64_t i, int64_t j) const {
    const int64_t l = limit(b, i);
    return j < l && j > l + size - queries + i % queries - window;
  }
  __device__ int64_t first_key(int64_t, int64_t, int64_t) const { return 0; }
  __device__ int64_t end_key(int64_t b, int64_t begin, int64_t end, int64_t keys) const {
    int64_t most = 0;
    for (int64_t i = begin / queries * queries; i < end; i += queries)
      most = limit(b, i) > most ? limit(b, i) : most;
    return most < keys ? most : keys;
  }
  __device__ int64_t first_query(int64_t, int64_t) const { return 0; }
  __device__ int64_t end_query(int64_t, int64_t, int64_t queries) const { return queries; }
};

// Visibility in grouped attention: groups of rows, and their context.
struct Groups {
  WithinGroup within;
  OfContext of_context;
};
inline Groups groups_of(const View& query, const View& key, const View& context_key,
                        const View& limits, const AttentionOptions& options) {
  const int64_t groups = limits.size[1], queries = query.size[1] / groups,
                size = key.size[1] / groups,
                window = options.window > 0 ? options.window : context_key.size[1] + size;
  return {{queries, size, window}, {queries, size, window, groups, pointer<const int32_t>(limits)}};
}

// From products of rows to scores, and what dropout makes of weights.
template <class T>
struct Scores {
  T scale, cap;  // cap 0: none
  bool drops;
  uint32_t threshold;
  T kept;
  uint64_t seed, offset;

  struct Score {
    T value, slope;  // slope: d(value) / d(product)
  };
  __device__ Score score(T product) const {
    const T scaled = product * scale;
    if (cap <= T(0)) return {scaled, scale};
    const T bend = fmath::tanh(scaled / cap);
    return {cap * bend, scale * (T(1) - bend * bend)};
  }
  // Dropout factor of weight number n of the stream.
  __device__ T factor(uint64_t n) const {
    if (!drops) return T(1);
    const Philox4 draw = philox(seed, offset + n / 4);
    const uint32_t low = n % 2 == 0 ? draw.v[0] : draw.v[1],
                   high = n % 2 == 0 ? draw.v[2] : draw.v[3];
    return ((n % 4 < 2 ? low : high) >> 8) >= threshold ? kept : T(0);
  }
};
template <class T>
Scores<T> scores_of(const AttentionOptions& o) {
  return {T(o.scale),
          T(o.softcap),
          o.dropout_p > 0,
          uint32_t(std::ceil(o.dropout_p * 16777216.0)),
          T(1.0 / (1.0 - o.dropout_p)),
          o.seed,
          o.offset};
}

// Operands of queries: log_sum_exp and delta are [B, H, queries], grad_output [B, queries, H, D].
template <class T>
struct Queries {
  Heads<const T> query, grad_output;
  const T *log_sum_exp, *delta;
  int64_t count, heads, group, dim;
};
template <class T>
struct Keys {
  Heads<const T> key, value;
  int64_t count;
};
template <class T>
Keys<T> keys_of(const View& key, const View& value) {
  return {heads_of<const T>(key), heads_of<const T>(value), key.size[1]};
}

// One query-key pair: its weight as values meet it, and the gradient of the product of query and
// key.
template <class T>
struct Pair {
  T weight, gradient;
};
template <class T>
__device__ Pair<T> weigh(const Scores<T>& scores, T product, T grad_weight, T log_sum_exp, T delta,
                         uint64_t number) {
  const auto score = scores.score(product);
  const T e = fmath::exp(score.value - log_sum_exp), keep = scores.factor(number);
  return {e * keep, e * (keep * grad_weight - delta) * score.slope};
}

// delta = output . grad_output of each row, a warp for each.
template <class T>
__global__ void REVERIE_ATTENTION_BOUNDS dot_outputs(const T* output, const T* grad_output,
                                                     int64_t rows, int64_t queries, int64_t heads,
                                                     int64_t dim, T* delta) {
  const int64_t row = int64_t(blockIdx.x) * kWarps + warp_number();
  if (row >= rows) return;
  T dot = 0;
  for (int64_t d = lane_number(); d < dim; d += kWarpSize)
    dot += output[row * dim + d] * grad_output[row * dim + d];
  dot = over_warp(dot, Sum{});
  const int64_t h = row % heads, i = row / heads % queries, b = row / heads / queries;
  if (lane_number() == 0) delta[(b * heads + h) * queries + i] = dot;
}

// Operands of both rows for the kernels above. delta: working memory.
template <class T>
Queries<T> queries_of(const View& query, const View& output, const View& grad_output,
                      const View& log_sum_exp, int64_t group, T* delta) {
  const int64_t rows = query.size[0] * query.size[1] * query.size[2], dim = query.size[3];
  Launch((rows + kWarps - 1) / kWarps, kAttentionThreads)(dot_outputs<T>, pointer<const T>(output),
                                                          pointer<const T>(grad_output), rows,
                                                          query.size[1], query.size[2], dim, delta);
  return {heads_of<const T>(query),
          {pointer<const T>(grad_output), query.size[1] * query.size[2] * dim, query.size[2] * dim,
           dim},
          pointer<const T>(log_sum_exp),
          delta,
          query.size[1],
          query.size[2],
          group,
          dim};
}

template <int kValue>
struct Parts {
  static constexpr int value = kValue;
};
// body(Parts<n>), with n * 32 >= dim.
template <class Body>
void with_parts(const char* op, int64_t dim, const Body& body) {
  require(dim <= kLongestHead, "{}: head_dim {} on cuda; wanted at most {}", op, dim, kLongestHead);
  if (dim <= 32)
    body(Parts<1>{});
  else if (dim <= 64)
    body(Parts<2>{});
  else if (dim <= 128)
    body(Parts<4>{});
  else
    body(Parts<8>{});
}

// In bf16: products by tensor cores (tensor_cores_*.cu). All else is plain arithmetic.
void tensor_attention_forward(const AttentionForward&);
void tensor_attention_backward(const AttentionBackward&);
void tensor_grouped_attention_forward(const GroupedAttentionForward&);
void tensor_grouped_attention_backward(const GroupedAttentionBackward&);

}  // namespace reverie::cuda
