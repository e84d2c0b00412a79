#pragma once
// Attention in plain arithmetic, in f32 and f64: products of rows against rows by way of shared
// memory.
//
// A block of kWarps warps owns kOwnRows rows of one head (queries; keys, for their gradient), kRows
// of them each warp. The rows of the other side pass by, kOtherRows at a time, one a lane. All is
// in one order, whatever the grid.

#include "kernels/cuda/attention/heads.cuh"

// The next loop is unrolled so far and no further: all of it would need more registers than there
// are.
#if defined(__CUDACC__)
#define REVERIE_UNROLL_4 _Pragma("unroll 4")
#else
#define REVERIE_UNROLL_4
#endif

namespace reverie::cuda {

inline constexpr int kOtherRows = kWarpSize, kDepth = 32;
template <class T>
inline constexpr int kRows = sizeof(T) == 8 ? 2 : 4;
template <class T>
inline constexpr int kOwnRows = kWarps* kRows<T>;

// products[r] = row r of this warp's own . row `lane` of the others, both of `dim` numbers; of own
// and others, `own_count` and `other_count` are there. For all threads of the block.
template <class T, class OwnTile, class OtherTile>
__device__ void multiply_rows(Rows<const T> own, int64_t own_count, Rows<const T> other,
                              int64_t other_count, int64_t dim, OwnTile& own_tile,
                              OtherTile& other_tile, T (&products)[kRows<T>]) {
  const int lane = lane_number(), first = warp_number() * kRows<T>;
  for (int r = 0; r < kRows<T>; ++r) products[r] = 0;
  for (int64_t depth = 0; depth < dim; depth += kDepth) {
    __syncthreads();  // the tiles may be in use
    for (int i = int(threadIdx.x); i < kOwnRows<T> * kDepth; i += kAttentionThreads) {
      const int64_t row = i / kDepth, d = depth + i % kDepth;
      own_tile[i] = row < own_count && d < dim ? own[row][d] : T(0);
    }
    // One column more than there is: lanes read down a column from different banks.
    for (int i = int(threadIdx.x); i < kOtherRows * kDepth; i += kAttentionThreads) {
      const int64_t row = i / kDepth, d = depth + i % kDepth;
      other_tile[int(row) * (kDepth + 1) + i % kDepth] =
          row < other_count && d < dim ? other[row][d] : T(0);
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
__device__ void add_weighted(Weights& weights, Rows<const T> other, int64_t other_count,
                             int64_t dim, T (&sums)[kRows<T>][kParts]) {
  const int lane = lane_number(), first = warp_number() * kRows<T>;
  const int count = other_count < kOtherRows ? int(other_count) : kOtherRows;
  REVERIE_UNROLL_4
  for (int j = 0; j < count; ++j) {
    T weight[kRows<T>];
    for (int r = 0; r < kRows<T>; ++r) weight[r] = weights[(first + r) * kOtherRows + j];
    for (int part = 0; part < kParts; ++part) {
      const int64_t d = part * kWarpSize + lane;
      const T x = d < dim ? other[j][d] : T(0);
      for (int r = 0; r < kRows<T>; ++r) sums[r][part] += weight[r] * x;
    }
  }
}

}  // namespace reverie::cuda

#define REVERIE_ATTENTION_TILES(T)                            \
  REVERIE_SHARED(T, own_tile, (kOwnRows<T> * kDepth));        \
  REVERIE_SHARED(T, other_tile, (kOtherRows * (kDepth + 1))); \
  REVERIE_SHARED(T, weights, (kOwnRows<T> * kOtherRows))
