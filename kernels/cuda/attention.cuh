#pragma once
// What the kernels of attention share: rows of heads, who sees whom, and products of rows against
// rows by way of shared memory.
//
// A block of kWarps warps owns kOwnRows rows of one head (queries; keys, for their gradient), kRows
// of them each warp. The rows of the other side pass by, kOtherRows at a time, one a lane. All is
// in one order, whatever the grid.

#include "core/random.h"
#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

// The next loop is unrolled so far and no further: all of it would need more registers than there
// are.
#if defined(__CUDACC__)
#define REVERIE_UNROLL_4 _Pragma("unroll 4")
#else
#define REVERIE_UNROLL_4
#endif
// With the least number of blocks of a multiprocessor said, ptxas spills nothing for the sake of
// more.
#define REVERIE_ATTENTION_BOUNDS __launch_bounds__(kAttentionThreads, 2)

namespace reverie::cuda {

inline constexpr int kWarps = 4, kAttentionThreads = kWarps * kWarpSize, kOtherRows = kWarpSize,
                     kDepth = 32;
template <class T>
inline constexpr int kRows = sizeof(T) == 8 ? 2 : 4;
template <class T>
inline constexpr int kOwnRows = kWarps* kRows<T>;
// Longest head: each lane holds every 32nd of its elements.
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
  // Of the keys that queries [begin, end) may see, and of the queries that may see keys [begin,
  // end), the first and one beyond the last, as far as bounds are at hand.
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
// Row i of groups of `size` sees the rows of its group up to itself.
struct WithinGroup {
  int64_t size, window;
  __device__ bool sees(int64_t, int64_t i, int64_t j) const {
    return j <= i && j > i - window && i / size == j / size;
  }
  __device__ int64_t first_key(int64_t, int64_t begin, int64_t) const {
    return begin / size * size;
  }
  __device__ int64_t end_key(int64_t, int64_t, int64_t end, int64_t keys) const {
    return end < keys ? end : keys;
  }
  __device__ int64_t first_query(int64_t begin, int64_t) const { return begin; }
  __device__ int64_t end_query(int64_t, int64_t end, int64_t queries) const {
    const int64_t beyond = (end - 1) / size * size + size;
    return beyond < queries ? beyond : queries;
  }
};
// Row i of groups of `size` sees the first limits[b, group] keys of the context.
struct OfContext {
  int64_t size, window, groups;
  const int32_t* limits;
  __device__ int64_t limit(int64_t b, int64_t i) const { return limits[b * groups + i / size]; }
  __device__ bool sees(int64_t b, int64_t i, int64_t j) const {
    const int64_t l = limit(b, i);
    return j < l && j > l + i % size - window;
  }
  __device__ int64_t first_key(int64_t, int64_t, int64_t) const { return 0; }
  __device__ int64_t end_key(int64_t b, int64_t begin, int64_t end, int64_t keys) const {
    int64_t most = 0;
    for (int64_t i = begin / size * size; i < end; i += size)
      most = limit(b, i) > most ? limit(b, i) : most;
    return most < keys ? most : keys;
  }
  __device__ int64_t first_query(int64_t, int64_t) const { return 0; }
  __device__ int64_t end_query(int64_t, int64_t, int64_t queries) const { return queries; }
};

// From products of rows to scores, and what dropout makes of weights.
template <class T>
struct Scores {
  T scale, cap;  // cap 0: none
  bool bf16, drops;
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
  // What weight number n of the stream is multiplied by.
  __device__ T factor(uint64_t n) const {
    if (!drops) return T(1);
    const Philox4 draw = philox(seed, offset + n / 4);
    const uint32_t low = n % 2 == 0 ? draw.v[0] : draw.v[1],
                   high = n % 2 == 0 ? draw.v[2] : draw.v[3];
    return ((n % 4 < 2 ? low : high) >> 8) >= threshold ? kept : T(0);
  }
  // x as an operand of a product.
  __device__ T operand(T x) const { return bf16 ? T(float_of_bf16(bf16_bits(float(x)))) : x; }
};
template <class T>
Scores<T> scores_of(const AttentionOptions& o) {
  return {T(o.scale),
          T(o.softcap),
          o.bf16,
          o.dropout_p > 0,
          uint32_t(std::ceil(o.dropout_p * 16777216.0)),
          T(1.0 / (1.0 - o.dropout_p)),
          o.seed,
          o.offset};
}

// products[r] = row r of this warp's own . row `lane` of the others, both of `dim` numbers; of own
// and others, `own_count` and `other_count` are there. For all threads of the block.
template <class T, class OwnTile, class OtherTile>
__device__ void multiply_rows(const Scores<T>& scores, Rows<const T> own, int64_t own_count,
                              Rows<const T> other, int64_t other_count, int64_t dim,
                              OwnTile& own_tile, OtherTile& other_tile, T (&products)[kRows<T>]) {
  const int lane = lane_number(), first = warp_number() * kRows<T>;
  for (int r = 0; r < kRows<T>; ++r) products[r] = 0;
  for (int64_t depth = 0; depth < dim; depth += kDepth) {
    __syncthreads();  // the tiles may be in use
    for (int i = int(threadIdx.x); i < kOwnRows<T> * kDepth; i += kAttentionThreads) {
      const int64_t row = i / kDepth, d = depth + i % kDepth;
      own_tile[i] = row < own_count && d < dim ? scores.operand(own[row][d]) : T(0);
    }
    // One column more than there is: lanes read down a column from different banks.
    for (int i = int(threadIdx.x); i < kOtherRows * kDepth; i += kAttentionThreads) {
      const int64_t row = i / kDepth, d = depth + i % kDepth;
      other_tile[int(row) * (kDepth + 1) + i % kDepth] =
          row < other_count && d < dim ? scores.operand(other[row][d]) : T(0);
    }
    __syncthreads();
    REVERIE_UNROLL_4
    for (int d = 0; d < kDepth; ++d) {
      const T of_lane = other_tile[lane * (kDepth + 1) + d];
      for (int r = 0; r < kRows<T>; ++r)
        products[r] += own_tile[(first + r) * kDepth + d] * of_lane;
    }
  }
}

// sums[r][..] += sum over the others of weights[r, other] * other: each lane holds every 32nd
// element of a row. `weights`: what the lanes of this warp have just written.
template <int kParts, class T, class Weights>
__device__ void add_weighted(const Scores<T>& scores, Weights& weights, Rows<const T> other,
                             int64_t other_count, int64_t dim, T (&sums)[kRows<T>][kParts]) {
  const int lane = lane_number(), first = warp_number() * kRows<T>;
  const int count = other_count < kOtherRows ? int(other_count) : kOtherRows;
  REVERIE_UNROLL_4
  for (int j = 0; j < count; ++j) {
    T weight[kRows<T>];
    for (int r = 0; r < kRows<T>; ++r) weight[r] = weights[(first + r) * kOtherRows + j];
    for (int part = 0; part < kParts; ++part) {
      const int64_t d = part * kWarpSize + lane;
      const T x = d < dim ? scores.operand(other[j][d]) : T(0);
      for (int r = 0; r < kRows<T>; ++r) sums[r][part] += weight[r] * x;
    }
  }
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

}  // namespace reverie::cuda

#define REVERIE_ATTENTION_TILES(T)                            \
  REVERIE_SHARED(T, own_tile, (kOwnRows<T> * kDepth));        \
  REVERIE_SHARED(T, other_tile, (kOtherRows * (kDepth + 1))); \
  REVERIE_SHARED(T, weights, (kOwnRows<T> * kOtherRows))
