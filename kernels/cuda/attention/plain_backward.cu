#include "kernels/cuda/attention/cudnn/cudnn_attention.h"
#include "kernels/cuda/attention/plain.cuh"

// The scores are computed anew from log_sum_exp, once for the gradient of queries, a block for a
// run of them, and once for those of keys and values, a block for a run of keys: nobody adds to
// what another block adds to.

namespace reverie::cuda {
namespace {

// sums += the gradient of queries [first, last) of head (b, h), by the keys of one kind.
template <class T, int kParts, class Sight, class OwnTile, class OtherTile, class Weights>
__device__ void add_query_gradient(const Scores<T>& scores, const Sight& sight, int64_t b,
                                   int64_t h, int64_t first, int64_t last, const Queries<T>& q,
                                   const Keys<T>& k, OwnTile& own_tile, OtherTile& other_tile,
                                   Weights& weights, T (&sums)[kRows<T>][kParts]) {
  const int lane = lane_number(), own = warp_number() * kRows<T>;
  const int64_t head = b * q.heads + h;
  const Rows<const T> query = q.query.rows(b, h), grad_output = q.grad_output.rows(b, h),
                      key = k.key.rows(b, h / q.group), value = k.value.rows(b, h / q.group);
  const int64_t begin = sight.first_key(b, first, last) / kOtherRows * kOtherRows,
                end = sight.end_key(b, first, last, k.count);
  for (int64_t k0 = begin; k0 < end; k0 += kOtherRows) {
    T products[kRows<T>], grad_weights[kRows<T>];
    multiply_rows({query[first], query.stride}, last - first, {key[k0], key.stride}, k.count - k0,
                  q.dim, own_tile, other_tile, products);
    multiply_rows({grad_output[first], grad_output.stride}, last - first, {value[k0], value.stride},
                  k.count - k0, q.dim, own_tile, other_tile, grad_weights);
    const int64_t j = k0 + lane;
    for (int r = 0; r < kRows<T>; ++r) {
      const int64_t i = first + own + r, row = head * q.count + i;
      T gradient = 0;
      if (i < last && j < k.count && sight.sees(b, i, j))
        gradient = weigh(scores, products[r], grad_weights[r], q.log_sum_exp[row], q.delta[row],
                         uint64_t(row) * uint64_t(k.count) + uint64_t(j))
                       .gradient;
      weights[(own + r) * kOtherRows + lane] = gradient;
    }
    __syncwarp();
    add_weighted<kParts>(weights, {key[k0], key.stride}, k.count - k0, q.dim, sums);
  }
}

// Rows of this warp, of [first, last), to where `to` says.
template <class T, int kParts>
__device__ void write_rows(const T (&sums)[kRows<T>][kParts], int64_t first, int64_t last,
                           int64_t dim, Rows<T> to) {
  for (int r = 0; r < kRows<T>; ++r) {
    const int64_t i = first + warp_number() * kRows<T> + r;
    if (i >= last) continue;
    for (int part = 0; part < kParts; ++part) {
      const int64_t d = part * kWarpSize + lane_number();
      if (d < dim) to[i][d] = sums[r][part];
    }
  }
}

// The block's head and run of rows.
template <class T>
struct Place {
  int64_t b, h, first, last;
  __device__ Place(int64_t heads, int64_t rows) {
    const int64_t tiles = (rows + kOwnRows<T> - 1) / kOwnRows<T>, head = blockIdx.x / tiles;
    b = head / heads;
    h = head % heads;
    first = blockIdx.x % tiles * kOwnRows<T>;
    last = first + kOwnRows<T> < rows ? first + kOwnRows<T> : rows;
  }
};
template <class T>
int64_t blocks_of(int64_t batch, int64_t heads, int64_t rows) {
  return batch * heads * ((rows + kOwnRows<T> - 1) / kOwnRows<T>);
}

// Keys of a second kind (the context of groups) may be none.
template <class T, int kParts, class Sight, class OtherSight>
__global__ void REVERIE_ATTENTION_BOUNDS query_gradient(Scores<T> scores, Sight sight,
                                                        OtherSight other_sight, Queries<T> q,
                                                        Keys<T> k, Keys<T> others,
                                                        Heads<T> grad_query) {
  REVERIE_ATTENTION_TILES(T);
  const Place<T> at(q.heads, q.count);
  T sums[kRows<T>][kParts] = {};
  add_query_gradient(scores, sight, at.b, at.h, at.first, at.last, q, k, own_tile, other_tile,
                     weights, sums);
  if (others.count > 0)
    add_query_gradient(scores, other_sight, at.b, at.h, at.first, at.last, q, others, own_tile,
                       other_tile, weights, sums);
  write_rows(sums, at.first, at.last, q.dim, grad_query.rows(at.b, at.h));
}

template <class T, int kParts, class Sight>
__global__ void REVERIE_ATTENTION_BOUNDS key_gradient(Scores<T> scores, Sight sight,
                                                      int64_t kv_heads, Queries<T> q, Keys<T> k,
                                                      Heads<T> grad_key, Heads<T> grad_value) {
  REVERIE_ATTENTION_TILES(T);
  REVERIE_SHARED(T, gradients, kOwnRows<T> * kOtherRows);
  const Place<T> at(kv_heads, k.count);
  const int lane = lane_number(), own = warp_number() * kRows<T>;
  const Rows<const T> key = k.key.rows(at.b, at.h), value = k.value.rows(at.b, at.h);
  T of_key[kRows<T>][kParts] = {}, of_value[kRows<T>][kParts] = {};
  const int64_t begin = sight.first_query(at.first, at.last) / kOtherRows * kOtherRows,
                end = sight.end_query(at.first, at.last, q.count);
  for (int64_t h = at.h * q.group; h < (at.h + 1) * q.group; ++h) {
    const Rows<const T> query = q.query.rows(at.b, h), grad_output = q.grad_output.rows(at.b, h);
    for (int64_t i0 = begin; i0 < end; i0 += kOtherRows) {
      T products[kRows<T>], grad_weights[kRows<T>];
      multiply_rows({key[at.first], key.stride}, at.last - at.first, {query[i0], query.stride},
                    q.count - i0, q.dim, own_tile, other_tile, products);
      multiply_rows({value[at.first], value.stride}, at.last - at.first,
                    {grad_output[i0], grad_output.stride}, q.count - i0, q.dim, own_tile,
                    other_tile, grad_weights);
      const int64_t i = i0 + lane, row = (at.b * q.heads + h) * q.count + i;
      for (int r = 0; r < kRows<T>; ++r) {
        const int64_t j = at.first + own + r;
        Pair<T> pair{0, 0};
        if (i < q.count && j < at.last && sight.sees(at.b, i, j))
          pair = weigh(scores, products[r], grad_weights[r], q.log_sum_exp[row], q.delta[row],
                       uint64_t(row) * uint64_t(k.count) + uint64_t(j));
        weights[(own + r) * kOtherRows + lane] = pair.weight;
        gradients[(own + r) * kOtherRows + lane] = pair.gradient;
      }
      __syncwarp();
      add_weighted<kParts>(gradients, {query[i0], query.stride}, q.count - i0, q.dim, of_key);
      add_weighted<kParts>(weights, {grad_output[i0], grad_output.stride}, q.count - i0, q.dim,
                           of_value);
    }
  }
  if (grad_key.data != nullptr)
    write_rows(of_key, at.first, at.last, q.dim, grad_key.rows(at.b, at.h));
  if (grad_value.data != nullptr)
    write_rows(of_value, at.first, at.last, q.dim, grad_value.rows(at.b, at.h));
}

void run_attention_backward(const AttentionBackward& a) {
  if (a.options.bf16) {
    if (!cudnn_attention_backward(a)) tensor_attention_backward(a);
    return;
  }
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             output = view(a.output), log_sum_exp = view(a.log_sum_exp),
             grad_output = view(a.grad_output), grad_query = writable(a.grad_query),
             grad_key = writable(a.grad_key), grad_value = writable(a.grad_value);
  if (query.count == 0) return;
  const Causal sight{a.options.first_position,
                     a.options.window > 0 ? a.options.window : key.size[1]};
  for_float(query.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t batch = query.size[0], kv_heads = key.size[2];
    Tensor delta = scratch(log_sum_exp.count, dtype_of<T>);
    const auto q = queries_of<T>(query, output, grad_output, log_sum_exp, query.size[2] / kv_heads,
                                 static_cast<T*>(delta.mutable_raw()));
    const Keys<T> k = keys_of<T>(key, value);
    const Scores<T> scores = scores_of<T>(a.options);
    with_parts("attention_backward", q.dim, [&](auto parts) {
      constexpr int kParts = decltype(parts)::value;
      Launch(blocks_of<T>(batch, q.heads, q.count), kAttentionThreads)(
          query_gradient<T, kParts, Causal, Causal>, scores, sight, sight, q, k, Keys<T>{},
          heads_of<T>(grad_query));
      Launch(blocks_of<T>(batch, kv_heads, k.count), kAttentionThreads)(
          key_gradient<T, kParts, Causal>, scores, sight, kv_heads, q, k, heads_of<T>(grad_key),
          heads_of<T>(grad_value));
    });
  });
}

void run_grouped_attention_backward(const GroupedAttentionBackward& a) {
  if (a.options.bf16) return tensor_grouped_attention_backward(a);
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             context_key = view(a.context_key), context_value = view(a.context_value),
             limits = view(a.limits), output = view(a.output), log_sum_exp = view(a.log_sum_exp),
             grad_output = view(a.grad_output), grad_query = writable(a.grad_query),
             grad_key = writable(a.grad_key), grad_value = writable(a.grad_value),
             grad_context_key = writable(a.grad_context_key),
             grad_context_value = writable(a.grad_context_value);
  if (query.count == 0) return;
  const Groups groups = groups_of(query, key, context_key, limits, a.options);
  for_float(query.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t batch = query.size[0], kv_heads = key.size[2];
    Tensor delta = scratch(log_sum_exp.count, dtype_of<T>);
    const auto q = queries_of<T>(query, output, grad_output, log_sum_exp, query.size[2] / kv_heads,
                                 static_cast<T*>(delta.mutable_raw()));
    const Keys<T> own = keys_of<T>(key, value), context = keys_of<T>(context_key, context_value);
    const Scores<T> scores = scores_of<T>(a.options);
    with_parts("grouped_attention_backward", q.dim, [&](auto parts) {
      constexpr int kParts = decltype(parts)::value;
      if (grad_query.data != nullptr)
        Launch(blocks_of<T>(batch, q.heads, q.count), kAttentionThreads)(
            query_gradient<T, kParts, WithinGroup, OfContext>, scores, groups.within,
            groups.of_context, q, own, context, heads_of<T>(grad_query));
      if (grad_key.data != nullptr || grad_value.data != nullptr)
        Launch(blocks_of<T>(batch, kv_heads, own.count), kAttentionThreads)(
            key_gradient<T, kParts, WithinGroup>, scores, groups.within, kv_heads, q, own,
            heads_of<T>(grad_key), heads_of<T>(grad_value));
      if (grad_context_key.data != nullptr || grad_context_value.data != nullptr)
        Launch(blocks_of<T>(batch, kv_heads, context.count), kAttentionThreads)(
            key_gradient<T, kParts, OfContext>, scores, groups.of_context, kv_heads, q, context,
            heads_of<T>(grad_context_key), heads_of<T>(grad_context_value));
    });
  });
}

REVERIE_CUDA_KERNEL(attention_backward, run_attention_backward);
REVERIE_CUDA_KERNEL(grouped_attention_backward, run_grouped_attention_backward);

}  // namespace
}  // namespace reverie::cuda
