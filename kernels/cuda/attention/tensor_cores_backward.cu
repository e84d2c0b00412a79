#include "kernels/cuda/attention/tensor_cores.cuh"

// As in plain arithmetic, scores are computed anew from log_sum_exp, once for the gradient of
// queries, a block for a run of them, and once for those of keys and values, a block for a run of
// keys.

namespace reverie::cuda {
namespace {

// Of a gradient of keys or values, a block adds up so many elements of a row: more need more
// registers than there are. A second block does the rest of a longer head.
constexpr int kLongestSlice = 128;

// Of the other side, so many rows at a time; and the words of all tiles.
template <int kDim>
inline constexpr int kOtherRows = Tiles<kDim>::others < 32 ? Tiles<kDim>::others : 32;
template <int kDim>
inline constexpr int kWords = Tiles<kDim>::stride * 2 * (kTileRows + kOtherRows<kDim>);

// sums += the gradient of the block's queries, by the keys of one kind. Queries are at word 0 of
// the tile, then their output's gradients.
template <int kDim, class Sight, class Tile>
__device__ void add_query_gradient(const Scores<float>& scores, const Sight& sight, const Place& at,
                                   const Queries<float>& q, const Keys<float>& k, bool packs,
                                   Tile& tile, const float (&log_sum_exp)[2],
                                   const float (&delta)[2], Product (&sums)[kDim / 8]) {
  using T = Tiles<kDim>;
  constexpr int kOthers = kOtherRows<kDim>, kOutputs = T::words(kTileRows), kKeys = 2 * kOutputs,
                kValues = kKeys + T::words(kOthers);
  const int own = warp_number() * 16;
  const Rows<const float> keys = k.key.rows(at.b, at.h / q.group),
                          values = k.value.rows(at.b, at.h / q.group);
  const int64_t begin = sight.first_key(at.b, at.first, at.last) / kOthers * kOthers,
                end = sight.end_key(at.b, at.first, at.last, k.count);
  for (int64_t k0 = begin; k0 < end; k0 += kOthers) {
    __syncthreads();  // the tiles may be in use
    fill_tile<kDim>(tile, kKeys, kOthers, {keys[k0], keys.stride}, k.count - k0, q.dim, packs);
    fill_tile<kDim>(tile, kValues, kOthers, {values[k0], values.stride}, k.count - k0, q.dim,
                    packs);
    __syncthreads();
    Product gradients[kOthers / 8], grad_weights[kOthers / 8];
    multiply_tiles<kDim, kOthers>(gradients, tile, T::words(own), kKeys, q.dim);
    multiply_tiles<kDim, kOthers>(grad_weights, tile, kOutputs + T::words(own), kValues, q.dim);
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = at.first + own + row_of(i), j = k0 + column_of(n, i);
        float& gradient = gradients[n].at[i];
        const bool visible = row < at.last && j < k.count && sight.sees(at.b, row, j);
        const uint64_t number = uint64_t(at.head * q.count + row) * uint64_t(k.count) + uint64_t(j);
        gradient = visible ? weigh(scores, gradient, grad_weights[n].at[i], log_sum_exp[i / 2],
                                   delta[i / 2], number)
                                 .gradient
                           : 0.0f;
      }
    add_weighted_rows<kDim, kOthers, kDim>(sums, gradients, tile, kKeys, 0, q.dim);
  }
}

// Keys of a second kind (the context of groups) may be none.
template <int kDim, class Sight, class OtherSight>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention_query_gradient(
    Scores<float> scores, Sight sight, OtherSight other_sight, Queries<float> q, Keys<float> k,
    Keys<float> others, bool packs, Heads<float> grad_query) {
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, kWords<kDim>);
  const Place at(q.heads, q.count);
  fill_tile<kDim>(tile, 0, kTileRows, {q.query.rows(at.b, at.h)[at.first], q.query.row},
                  at.last - at.first, q.dim, packs);
  fill_tile<kDim>(tile, Tiles<kDim>::words(kTileRows), kTileRows,
                  {q.grad_output.rows(at.b, at.h)[at.first], q.grad_output.row}, at.last - at.first,
                  q.dim, packs);
  const int64_t own = at.first + warp_number() * 16;
  float log_sum_exp[2] = {0, 0}, delta[2] = {0, 0};
  for (int r = 0; r < 2; ++r) {
    const int64_t row = own + row_of(2 * r);
    if (row >= at.last) continue;
    log_sum_exp[r] = q.log_sum_exp[at.head * q.count + row];
    delta[r] = q.delta[at.head * q.count + row];
  }
  Product sums[kDim / 8] = {};
  add_query_gradient<kDim>(scores, sight, at, q, k, packs, tile, log_sum_exp, delta, sums);
  if (others.count > 0)
    add_query_gradient<kDim>(scores, other_sight, at, q, others, packs, tile, log_sum_exp, delta,
                             sums);
  write_sums<kDim>(sums, {1, 1}, at.last - own, q.dim, 0,
                   {grad_query.rows(at.b, at.h)[own], grad_query.row});
}

// A block for a run of keys and slice blockIdx.y of their gradients' elements.
template <int kDim, class Sight>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention_key_gradient(
    Scores<float> scores, Sight sight, int64_t kv_heads, Queries<float> q, Keys<float> k,
    bool packs, Heads<float> grad_key, Heads<float> grad_value) {
  using T = Tiles<kDim>;
  constexpr int kOthers = kDim <= 64 ? 32 : 16, kValues = T::words(kTileRows),
                kQueries = 2 * kValues, kOutputs = kQueries + T::words(kOthers),
                kSlice = kDim < kLongestSlice ? kDim : kLongestSlice;
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, kWords<kDim>);
  const Place at(kv_heads, k.count);
  const int own = warp_number() * 16, depth = int(blockIdx.y) * kSlice;
  fill_tile<kDim>(tile, 0, kTileRows, {k.key.rows(at.b, at.h)[at.first], k.key.row},
                  at.last - at.first, q.dim, packs);
  fill_tile<kDim>(tile, kValues, kTileRows, {k.value.rows(at.b, at.h)[at.first], k.value.row},
                  at.last - at.first, q.dim, packs);

  Product of_key[kSlice / 8] = {}, of_value[kSlice / 8] = {};
  const int64_t begin = sight.first_query(at.first, at.last) / kOthers * kOthers,
                end = sight.end_query(at.first, at.last, q.count);
  for (int64_t h = at.h * q.group; h < (at.h + 1) * q.group; ++h) {
    const Rows<const float> query = q.query.rows(at.b, h),
                            grad_output = q.grad_output.rows(at.b, h);
    const int64_t head = at.b * q.heads + h;
    for (int64_t i0 = begin; i0 < end; i0 += kOthers) {
      __syncthreads();  // the tiles may be in use
      fill_tile<kDim>(tile, kQueries, kOthers, {query[i0], query.stride}, q.count - i0, q.dim,
                      packs);
      fill_tile<kDim>(tile, kOutputs, kOthers, {grad_output[i0], grad_output.stride}, q.count - i0,
                      q.dim, packs);
      __syncthreads();
      Product weights[kOthers / 8], gradients[kOthers / 8];
      multiply_tiles<kDim, kOthers>(weights, tile, T::words(own), kQueries, q.dim);
      multiply_tiles<kDim, kOthers>(gradients, tile, kValues + T::words(own), kOutputs, q.dim);
      REVERIE_UNROLL
      for (int n = 0; n < kOthers / 8; ++n)
        for (int i = 0; i < 4; ++i) {
          const int64_t j = at.first + own + row_of(i), row = i0 + column_of(n, i);
          float &weight = weights[n].at[i], &gradient = gradients[n].at[i];
          Pair<float> pair{0, 0};
          if (row < q.count && j < at.last && sight.sees(at.b, row, j))
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
  const int64_t row = at.first + own;
  if (grad_key.data != nullptr)
    write_sums<kSlice>(of_key, {1, 1}, at.last - row, q.dim, depth,
                       {grad_key.rows(at.b, at.h)[row], grad_key.row});
  if (grad_value.data != nullptr)
    write_sums<kSlice>(of_value, {1, 1}, at.last - row, q.dim, depth,
                       {grad_value.rows(at.b, at.h)[row], grad_value.row});
}

template <class Sight, class OtherSight>
void run_query_gradient(const char* op, const Scores<float>& scores, const Sight& sight,
                        const OtherSight& other_sight, int64_t batch, const Queries<float>& q,
                        const Keys<float>& k, const Keys<float>& others,
                        const Heads<float>& grad_query) {
  const bool packs = on_packs({q.query, q.grad_output, k.key, k.value, others.key, others.value});
  with_dim(op, q.dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    Launch(batch * q.heads * tiles_of(q.count), kAttentionThreads)
        .with_shared(sizeof(uint32_t) * kWords<kDim>)(
            tensor_attention_query_gradient<kDim, Sight, OtherSight>, scores, sight, other_sight, q,
            k, others, packs, grad_query);
  });
}
template <class Sight>
void run_key_gradient(const char* op, const Scores<float>& scores, const Sight& sight,
                      int64_t batch, int64_t kv_heads, const Queries<float>& q,
                      const Keys<float>& k, const Heads<float>& grad_key,
                      const Heads<float>& grad_value) {
  const bool packs = on_packs({q.query, q.grad_output, k.key, k.value});
  with_dim(op, q.dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    Launch(batch * kv_heads * tiles_of(k.count), (q.dim + kLongestSlice - 1) / kLongestSlice,
           kAttentionThreads)
        .with_shared(sizeof(uint32_t) * kWords<kDim>)(tensor_attention_key_gradient<kDim, Sight>,
                                                      scores, sight, kv_heads, q, k, packs,
                                                      grad_key, grad_value);
  });
}

}  // namespace

void tensor_attention_backward(const AttentionBackward& a) {
  constexpr const char* kOp = "attention_backward";
  const View query = view(a.query), key = view(a.key), log_sum_exp = view(a.log_sum_exp);
  if (query.count == 0) return;
  const Causal sight{a.options.first_position,
                     a.options.window > 0 ? a.options.window : key.size[1]};
  const int64_t batch = query.size[0], kv_heads = key.size[2];
  Tensor delta = scratch(log_sum_exp.count, DType::f32);
  const auto q =
      queries_of<float>(query, view(a.output), view(a.grad_output), log_sum_exp,
                        query.size[2] / kv_heads, static_cast<float*>(delta.mutable_raw()));
  const Keys<float> k = keys_of<float>(key, view(a.value));
  const Scores<float> scores = scores_of<float>(a.options);
  run_query_gradient(kOp, scores, sight, sight, batch, q, k, Keys<float>{},
                     heads_of<float>(writable(a.grad_query)));
  run_key_gradient(kOp, scores, sight, batch, kv_heads, q, k, heads_of<float>(writable(a.grad_key)),
                   heads_of<float>(writable(a.grad_value)));
}

void tensor_grouped_attention_backward(const GroupedAttentionBackward& a) {
  constexpr const char* kOp = "grouped_attention_backward";
  const View query = view(a.query), key = view(a.key), log_sum_exp = view(a.log_sum_exp),
             grad_query = writable(a.grad_query), grad_key = writable(a.grad_key),
             grad_value = writable(a.grad_value), grad_context_key = writable(a.grad_context_key),
             grad_context_value = writable(a.grad_context_value);
  if (query.count == 0) return;
  const Groups groups = groups_of(query, key, view(a.context_key), view(a.limits), a.options);
  const int64_t batch = query.size[0], kv_heads = key.size[2];
  Tensor delta = scratch(log_sum_exp.count, DType::f32);
  const auto q =
      queries_of<float>(query, view(a.output), view(a.grad_output), log_sum_exp,
                        query.size[2] / kv_heads, static_cast<float*>(delta.mutable_raw()));
  const Keys<float> own = keys_of<float>(key, view(a.value)),
                    context = keys_of<float>(view(a.context_key), view(a.context_value));
  const Scores<float> scores = scores_of<float>(a.options);
  if (grad_query.data != nullptr)
    run_query_gradient(kOp, scores, groups.within, groups.of_context, batch, q, own, context,
                       heads_of<float>(grad_query));
  if (grad_key.data != nullptr || grad_value.data != nullptr)
    run_key_gradient(kOp, scores, groups.within, batch, kv_heads, q, own, heads_of<float>(grad_key),
                     heads_of<float>(grad_value));
  if (grad_context_key.data != nullptr || grad_context_value.data != nullptr)
    run_key_gradient(kOp, scores, groups.of_context, batch, kv_heads, q, context,
                     heads_of<float>(grad_context_key), heads_of<float>(grad_context_value));
}

}  // namespace reverie::cuda
