#include "kernels/cuda/tensor_attention.cuh"

// As in plain arithmetic, scores are computed anew from log_sum_exp, once for the gradient of
// queries, a block for a run of them, and once for those of keys and values, a block for a run of
// keys.

namespace reverie::cuda {
namespace {

// Of a gradient of keys or values, a block adds up so many elements of a row: more need more
// registers than there are. A second block does the rest of a longer head.
constexpr int kLongestSlice = 128;

template <int kDim>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention_query_gradient(Scores<float> scores,
                                                                         Causal sight,
                                                                         Queries<float> q,
                                                                         Keys<float> k, bool packs,
                                                                         Heads<float> grad_query) {
  using Tile = Tiles<kDim>;
  constexpr int kOthers = Tile::others < 32 ? Tile::others : 32, kOutputs = Tile::words(kTileRows),
                kKeys = 2 * kOutputs, kValues = kKeys + Tile::words(kOthers);
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, kValues + Tile::words(kOthers));
  const int64_t tiles = (q.count + kTileRows - 1) / kTileRows, head = blockIdx.x / tiles,
                b = head / q.heads, h = head % q.heads, first = blockIdx.x % tiles * kTileRows,
                last = first + kTileRows < q.count ? first + kTileRows : q.count;
  const int own = warp_number() * 16;
  const Rows<const float> keys = k.key.rows(b, h / q.group), values = k.value.rows(b, h / q.group);
  fill_tile<kDim>(tile, 0, kTileRows, {q.query.rows(b, h)[first], q.query.row}, last - first, q.dim,
                  packs);
  fill_tile<kDim>(tile, kOutputs, kTileRows, {q.grad_output.rows(b, h)[first], q.grad_output.row},
                  last - first, q.dim, packs);
  float log_sum_exp[2] = {0, 0}, delta[2] = {0, 0};
  for (int r = 0; r < 2; ++r) {
    const int64_t row = first + own + row_of(2 * r);
    if (row >= last) continue;
    log_sum_exp[r] = q.log_sum_exp[head * q.count + row];
    delta[r] = q.delta[head * q.count + row];
  }

  Product sums[kDim / 8] = {};
  const int64_t begin = sight.first_key(b, first, last) / kOthers * kOthers,
                end = sight.end_key(b, first, last, k.count);
  for (int64_t k0 = begin; k0 < end; k0 += kOthers) {
    __syncthreads();  // the tiles may be in use
    fill_tile<kDim>(tile, kKeys, kOthers, {keys[k0], keys.stride}, k.count - k0, q.dim, packs);
    fill_tile<kDim>(tile, kValues, kOthers, {values[k0], values.stride}, k.count - k0, q.dim,
                    packs);
    __syncthreads();
    Product gradients[kOthers / 8], grad_weights[kOthers / 8];
    multiply_tiles<kDim, kOthers>(gradients, tile, Tile::words(own), kKeys, q.dim);
    multiply_tiles<kDim, kOthers>(grad_weights, tile, kOutputs + Tile::words(own), kValues, q.dim);
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = first + own + row_of(i), j = k0 + column_of(n, i);
        float& gradient = gradients[n].at[i];
        const bool visible = row < last && j < k.count && sight.sees(b, row, j);
        const uint64_t number = uint64_t(head * q.count + row) * uint64_t(k.count) + uint64_t(j);
        gradient = visible ? weigh(scores, gradient, grad_weights[n].at[i], log_sum_exp[i / 2],
                                   delta[i / 2], number)
                                 .gradient
                           : 0.0f;
      }
    add_weighted_rows<kDim, kOthers, kDim>(sums, gradients, tile, kKeys, 0, q.dim);
  }
  const int64_t row = first + own;
  write_sums<kDim>(sums, {1, 1}, last - row, q.dim, 0,
                   {grad_query.rows(b, h)[row], grad_query.row});
}

// A block for a run of keys and slice blockIdx.y of their gradients' elements.
template <int kDim>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention_key_gradient(
    Scores<float> scores, Causal sight, int64_t kv_heads, Queries<float> q, Keys<float> k,
    bool packs, Heads<float> grad_key, Heads<float> grad_value) {
  using Tile = Tiles<kDim>;
  constexpr int kOthers = Tile::others < 32 ? Tile::others : 32, kValues = Tile::words(kTileRows),
                kQueries = 2 * kValues, kOutputs = kQueries + Tile::words(kOthers),
                kSlice = kDim < kLongestSlice ? kDim : kLongestSlice;
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, kOutputs + Tile::words(kOthers));
  const int64_t tiles = (k.count + kTileRows - 1) / kTileRows, kv_head = blockIdx.x / tiles,
                b = kv_head / kv_heads, kv = kv_head % kv_heads,
                first = blockIdx.x % tiles * kTileRows,
                last = first + kTileRows < k.count ? first + kTileRows : k.count;
  const int own = warp_number() * 16, depth = int(blockIdx.y) * kSlice;
  fill_tile<kDim>(tile, 0, kTileRows, {k.key.rows(b, kv)[first], k.key.row}, last - first, q.dim,
                  packs);
  fill_tile<kDim>(tile, kValues, kTileRows, {k.value.rows(b, kv)[first], k.value.row}, last - first,
                  q.dim, packs);

  Product of_key[kSlice / 8] = {}, of_value[kSlice / 8] = {};
  const int64_t begin = sight.first_query(first, last) / kOthers * kOthers,
                end = sight.end_query(first, last, q.count);
  for (int64_t h = kv * q.group; h < (kv + 1) * q.group; ++h) {
    const Rows<const float> query = q.query.rows(b, h), grad_output = q.grad_output.rows(b, h);
    const int64_t head = b * q.heads + h;
    for (int64_t i0 = begin; i0 < end; i0 += kOthers) {
      __syncthreads();  // the tiles may be in use
      fill_tile<kDim>(tile, kQueries, kOthers, {query[i0], query.stride}, q.count - i0, q.dim,
                      packs);
      fill_tile<kDim>(tile, kOutputs, kOthers, {grad_output[i0], grad_output.stride}, q.count - i0,
                      q.dim, packs);
      __syncthreads();
      Product weights[kOthers / 8], gradients[kOthers / 8];
      multiply_tiles<kDim, kOthers>(weights, tile, Tile::words(own), kQueries, q.dim);
      multiply_tiles<kDim, kOthers>(gradients, tile, kValues + Tile::words(own), kOutputs, q.dim);
      REVERIE_UNROLL
      for (int n = 0; n < kOthers / 8; ++n)
        for (int i = 0; i < 4; ++i) {
          const int64_t j = first + own + row_of(i), row = i0 + column_of(n, i);
          float &weight = weights[n].at[i], &gradient = gradients[n].at[i];
          Pair<float> pair{0, 0};
          if (row < q.count && j < last && sight.sees(b, row, j))
            pair = weigh(scores, weight, gradient, q.log_sum_exp[head * q.count + row],
                         q.delta[head * q.count + row],
                         uint64_t(head * q.count + row) * uint64_t(k.count) + uint64_t(j));
          weight = pair.weight;
          gradient = pair.gradient;
        }
      add_weighted_rows<kDim, kOthers, kSlice>(of_key, gradients, tile, kQueries, depth, q.dim);
      add_weighted_rows<kDim, kOthers, kSlice>(of_value, weights, tile, kOutputs, depth, q.dim);
    }
  }
  const int64_t row = first + own;
  if (grad_key.data != nullptr)
    write_sums<kSlice>(of_key, {1, 1}, last - row, q.dim, depth,
                       {grad_key.rows(b, kv)[row], grad_key.row});
  if (grad_value.data != nullptr)
    write_sums<kSlice>(of_value, {1, 1}, last - row, q.dim, depth,
                       {grad_value.rows(b, kv)[row], grad_value.row});
}

}  // namespace

void tensor_attention_backward(const AttentionBackward& a) {
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             output = view(a.output), log_sum_exp = view(a.log_sum_exp),
             grad_output = view(a.grad_output), grad_query = writable(a.grad_query),
             grad_key = writable(a.grad_key), grad_value = writable(a.grad_value);
  if (query.count == 0) return;
  const Causal sight{a.options.first_position,
                     a.options.window > 0 ? a.options.window : key.size[1]};
  const int64_t batch = query.size[0], kv_heads = key.size[2];
  Tensor delta = scratch(log_sum_exp.count, DType::f32);
  const auto q =
      queries_of<float>(query, output, grad_output, log_sum_exp, query.size[2] / kv_heads,
                        static_cast<float*>(delta.mutable_raw()));
  const Keys<float> k{heads_of<const float>(key), heads_of<const float>(value), key.size[1]};
  const Scores<float> scores = scores_of<float>(a.options);
  const bool packs = on_packs({q.query, q.grad_output, k.key, k.value});
  const auto tiles = [](int64_t rows) { return (rows + kTileRows - 1) / kTileRows; };
  with_dim("attention_backward", q.dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    using Tile = Tiles<kDim>;
    const size_t shared =
        sizeof(uint32_t) * Tile::words(2 * kTileRows + 2 * std::min(Tile::others, 32));
    Launch(batch * q.heads * tiles(q.count), kAttentionThreads)
        .with_shared(shared)(tensor_attention_query_gradient<kDim>, scores, sight, q, k, packs,
                             heads_of<float>(grad_query));
    Launch(batch * kv_heads * tiles(k.count), (q.dim + kLongestSlice - 1) / kLongestSlice,
           kAttentionThreads)
        .with_shared(shared)(tensor_attention_key_gradient<kDim>, scores, sight, kv_heads, q, k,
                             packs, heads_of<float>(grad_key), heads_of<float>(grad_value));
  });
}

}  // namespace reverie::cuda
