#pragma once
// Attention on tensor cores: operands of products in bf16, sums in f32 (AttentionOptions::bf16).
// After Dao, "FlashAttention-2" (2023).
//
// A block of kWarps warps owns kTileRows rows of one head (queries; keys, for their gradient), 16
// of them each warp. The rows of the other side pass by, kOthers at a time. Both lie in shared
// memory as rows of bf16 pairs; products of one with the other stay in registers, where they become
// the left operand of the next product. All is in one order, whatever the grid.

#include "kernels/cuda/attention/heads.cuh"

// Products lie in registers only where all their indices are known to the compiler.
#if defined(__CUDACC__)
#define REVERIE_UNROLL _Pragma("unroll")
#else
#define REVERIE_UNROLL
#endif

namespace reverie::cuda {

inline constexpr int kTileRows = kWarps * 16;

// Heads of up to kDim elements.
template <int kDim>
struct Tiles {
  // Words of a row: 4 more than it has, so that eight rows lie in different banks.
  static constexpr int stride = kDim / 2 + 4;
  // More of the others at once leave too few registers for long heads.
  static constexpr int others = kDim <= 64 ? 64 : kDim <= 128 ? 32 : 16;
  REVERIE_HOST_DEVICE static constexpr int words(int rows) { return rows * stride; }
};

REVERIE_HOST_DEVICE inline int64_t tiles_of(int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}
// The block's run of rows of one head: [first, last) of head h of entry b, number `head` of all.
struct Place {
  int64_t head, b, h, first, last;
  __device__ Place(int64_t heads, int64_t rows) {
    head = blockIdx.x / tiles_of(rows);
    b = head / heads;
    h = head % heads;
    first = blockIdx.x % tiles_of(rows) * kTileRows;
    last = first + kTileRows < rows ? first + kTileRows : rows;
  }
};

// `rows` rows from `from`, of which `count` are there, each of `dim` numbers, to the tile at word
// `first`. For all threads of the block. `packs`: rows lie on boundaries of 16 bytes.
template <int kDim, class Tile>
__device__ void fill_tile(Tile& tile, int first, int rows, Rows<const float> from, int64_t count,
                          int64_t dim, bool packs) {
  constexpr int kPacks = kDim / 4;
  for (int i = int(threadIdx.x); i < rows * kPacks; i += kAttentionThreads) {
    const int row = i / kPacks, d = i % kPacks * 4;
    const int64_t left = row < count ? dim - d : 0;
    Pack<float, 4> x{};
    if (left > 0)
      x = packs ? load<true, 4>(from[row] + d, left) : load<false, 4>(from[row] + d, left);
    const int word = first + row * Tiles<kDim>::stride + d / 2;
    tile[word] = bf16_pair(x.at[0], x.at[1]);
    tile[word + 1] = bf16_pair(x.at[2], x.at[3]);
  }
}

// products = the 16 rows at word `own` . kOthers rows at word `others`, transposed.
template <int kDim, int kOthers, class Tile>
__device__ void multiply_tiles(Product (&products)[kOthers / 8], const Tile& tile, int own,
                               int others, int64_t dim) {
  REVERIE_UNROLL
  for (int n = 0; n < kOthers / 8; ++n) products[n] = {};
  REVERIE_UNROLL
  for (int depth = 0; depth < kDim && depth < dim; depth += 16) {
    const Left left = load_left(tile, own + depth / 2, Tiles<kDim>::stride);
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 16; ++n) {
      Right right[2];
      load_right_of_rows(right, tile, others + n * 16 * Tiles<kDim>::stride + depth / 2,
                         Tiles<kDim>::stride);
      multiply_add(products[2 * n], left, right[0]);
      multiply_add(products[2 * n + 1], left, right[1]);
    }
  }
}

// sums += weights [16, kOthers] . columns `depth` .. depth + kSlice of kOthers rows at word
// `others`.
template <int kDim, int kOthers, int kSlice, class Tile>
__device__ void add_weighted_rows(Product (&sums)[kSlice / 8],
                                  const Product (&weights)[kOthers / 8], const Tile& tile,
                                  int others, int depth, int64_t dim) {
  REVERIE_UNROLL
  for (int j = 0; j < kOthers / 16; ++j) {
    const Product &early = weights[2 * j], &late = weights[2 * j + 1];
    // The layout of products is that of left operands, a pair for two numbers.
    const Left left{bf16_pair(early.at[0], early.at[1]), bf16_pair(early.at[2], early.at[3]),
                    bf16_pair(late.at[0], late.at[1]), bf16_pair(late.at[2], late.at[3])};
    REVERIE_UNROLL
    for (int n = 0; n < kSlice / 16; ++n) {
      if (depth + n * 16 >= dim) break;
      Right right[2];
      load_right_of_columns(right, tile,
                            others + j * 16 * Tiles<kDim>::stride + (depth + n * 16) / 2,
                            Tiles<kDim>::stride);
      multiply_add(sums[2 * n], left, right[0]);
      multiply_add(sums[2 * n + 1], left, right[1]);
    }
  }
}

// Row (of 16) and column of element i of a lane's share of product n.
__device__ inline int row_of(int i) {
  return lane_number() / 4 + i / 2 * 8;
}
__device__ inline int column_of(int n, int i) {
  return n * 8 + lane_number() % 4 * 2 + i % 2;
}

// f over the four lanes that share rows of a product, the same in each.
template <class F>
__device__ float over_row(float value, F f) {
  for (int mask = 2; mask > 0; mask /= 2) value = f(value, __shfl_xor_sync(kAllLanes, value, mask));
  return value;
}

// The first `rows` of 16 rows of sums, row r times factor[r / 8], to elements `depth` .. of rows of
// `dim`.
template <int kSlice>
__device__ void write_sums(const Product (&sums)[kSlice / 8], const float (&factor)[2],
                           int64_t rows, int64_t dim, int depth, Rows<float> to) {
  REVERIE_UNROLL
  for (int n = 0; n < kSlice / 8; ++n)
    for (int i = 0; i < 4; ++i) {
      const int64_t d = depth + column_of(n, i);
      if (row_of(i) < rows && d < dim) to[row_of(i)][d] = sums[n].at[i] * factor[i / 2];
    }
}

// Whether rows of all of these lie on boundaries of 16 bytes.
inline bool on_packs(std::initializer_list<Heads<const float>> all) {
  return std::all_of(all.begin(), all.end(), [](const Heads<const float>& h) {
    return on_pack_boundaries({h.data}) && h.batch % 4 == 0 && h.row % 4 == 0 && h.head % 4 == 0;
  });
}

template <int kValue>
struct Dim {
  static constexpr int value = kValue;
};
// body(Dim<n>), with n >= dim.
template <class Body>
void with_dim(const char* op, int64_t dim, const Body& body) {
  with_parts(op, dim, [&](auto parts) { body(Dim<decltype(parts)::value * 32>{}); });
}

}  // namespace reverie::cuda
