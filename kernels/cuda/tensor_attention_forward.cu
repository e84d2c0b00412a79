#include "kernels/cuda/tensor_attention.cuh"

namespace reverie::cuda {
namespace {

constexpr float kLowest = -3.0e38f;

struct Sizes {
  int64_t queries, keys, heads, group, dim;
};

// output [B, queries, H, D], log_sum_exp [B, H, queries].
template <int kDim>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention(Scores<float> scores, Causal sight,
                                                          Sizes s, Heads<const float> query,
                                                          Heads<const float> key,
                                                          Heads<const float> value, bool packs,
                                                          float* output, float* log_sum_exp) {
  using Tile = Tiles<kDim>;
  constexpr int kOthers = Tile::others, kKeys = Tile::words(kTileRows),
                kValues = kKeys + Tile::words(kOthers);
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, kValues + Tile::words(kOthers));
  const int64_t tiles = (s.queries + kTileRows - 1) / kTileRows, head = blockIdx.x / tiles,
                b = head / s.heads, h = head % s.heads, first = blockIdx.x % tiles * kTileRows,
                last = first + kTileRows < s.queries ? first + kTileRows : s.queries;
  const int own = warp_number() * 16;
  const Rows<const float> keys = key.rows(b, h / s.group), values = value.rows(b, h / s.group);
  fill_tile<kDim>(tile, 0, kTileRows, {query.rows(b, h)[first], query.row}, last - first, s.dim,
                  packs);

  // Of the lane's two rows.
  float top[2] = {kLowest, kLowest}, total[2] = {0, 0};
  Product sums[kDim / 8] = {};
  const int64_t begin = sight.first_key(b, first, last) / kOthers * kOthers,
                end = sight.end_key(b, first, last, s.keys);
  for (int64_t k0 = begin; k0 < end; k0 += kOthers) {
    __syncthreads();  // the tiles may be in use
    fill_tile<kDim>(tile, kKeys, kOthers, {keys[k0], keys.stride}, s.keys - k0, s.dim, packs);
    fill_tile<kDim>(tile, kValues, kOthers, {values[k0], values.stride}, s.keys - k0, s.dim, packs);
    __syncthreads();
    Product weights[kOthers / 8];
    multiply_tiles<kDim, kOthers>(weights, tile, Tile::words(own), kKeys, s.dim);

    float highest[2] = {top[0], top[1]};
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = first + own + row_of(i), j = k0 + column_of(n, i);
        float& score = weights[n].at[i];
        score =
            row < last && j < s.keys && sight.sees(b, row, j) ? scores.score(score).value : kLowest;
        highest[i / 2] = Maximum{}(highest[i / 2], score);
      }
    float correction[2], of_tile[2] = {0, 0};
    for (int r = 0; r < 2; ++r) {
      highest[r] = over_row(highest[r], Maximum{});
      correction[r] = total[r] > 0 ? fmath::exp(top[r] - highest[r]) : 0.0f;
      top[r] = highest[r];
    }
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = first + own + row_of(i), j = k0 + column_of(n, i);
        float& weight = weights[n].at[i];
        weight = weight == kLowest ? 0.0f : fmath::exp(weight - top[i / 2]);
        of_tile[i / 2] += weight;
        weight *= scores.factor((uint64_t(head) * uint64_t(s.queries) + uint64_t(row)) *
                                    uint64_t(s.keys) +
                                uint64_t(j));
      }
    for (int r = 0; r < 2; ++r) total[r] = total[r] * correction[r] + over_row(of_tile[r], Sum{});
    REVERIE_UNROLL
    for (Product& sum : sums)
      for (int i = 0; i < 4; ++i) sum.at[i] *= correction[i / 2];
    add_weighted_rows<kDim, kOthers, kDim>(sums, weights, tile, kValues, 0, s.dim);
  }

  const float inverse[2] = {1 / total[0], 1 / total[1]};
  const int64_t row = first + own;
  write_sums<kDim>(sums, inverse, last - row, s.dim, 0,
                   {output + ((b * s.queries + row) * s.heads + h) * s.dim, s.heads * s.dim});
  for (int r = 0; r < 2; ++r)
    if (lane_number() % 4 == 0 && row + row_of(2 * r) < last)
      log_sum_exp[head * s.queries + row + row_of(2 * r)] = top[r] + fmath::log(total[r]);
}

}  // namespace

void tensor_attention_forward(const AttentionForward& a) {
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             output = writable(a.output), log_sum_exp = writable(a.log_sum_exp);
  if (query.count == 0) return;
  const Sizes s{query.size[1], key.size[1], query.size[2], query.size[2] / key.size[2],
                query.size[3]};
  const auto q = heads_of<const float>(query), k = heads_of<const float>(key),
             v = heads_of<const float>(value);
  const int64_t tiles = (s.queries + kTileRows - 1) / kTileRows;
  with_dim("attention_forward", s.dim, [&](auto dim) {
    using Tile = Tiles<decltype(dim)::value>;
    Launch(query.size[0] * s.heads * tiles, kAttentionThreads)
        .with_shared(sizeof(uint32_t) * Tile::words(kTileRows + 2 * Tile::others))(
            tensor_attention<decltype(dim)::value>, scores_of<float>(a.options),
            Causal{a.options.first_position, a.options.window > 0 ? a.options.window : s.keys}, s,
            q, k, v, on_packs({q, k, v}), pointer<float>(output), pointer<float>(log_sum_exp));
  });
}

}  // namespace reverie::cuda
