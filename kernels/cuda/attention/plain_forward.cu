#include "kernels/cuda/attention/cudnn/cudnn_attention.h"
#include "kernels/cuda/attention/plain.cuh"

namespace reverie::cuda {
namespace {

template <class T>
inline constexpr T kLowest = sizeof(T) == 4 ? T(-3.0e38f) : T(-1.0e308);

// The online softmax of this warp's rows, and their weighted sums of values so far.
template <class T, int kParts>
struct Softmax {
  T top[kRows<T>], total[kRows<T>], sums[kRows<T>][kParts];
  __device__ void begin() {
    for (int r = 0; r < kRows<T>; ++r) {
      top[r] = kLowest<T>;
      total[r] = 0;
      for (int part = 0; part < kParts; ++part) sums[r][part] = 0;
    }
  }
};

// Queries [first, last) of head h of entry b meet the keys that they see.
template <class T, int kParts, class Sight, class OwnTile, class OtherTile, class Weights>
__device__ void attend(const Scores<T>& scores, const Sight& sight, int64_t b, uint64_t head,
                       int64_t first, int64_t last, int64_t queries, int64_t keys, int64_t dim,
                       Rows<const T> query, Rows<const T> key, Rows<const T> value,
                       OwnTile& own_tile, OtherTile& other_tile, Weights& weights,
                       Softmax<T, kParts>& softmax) {
  const int lane = lane_number(), own = warp_number() * kRows<T>;
  const int64_t begin = sight.first_key(b, first, last) / kOtherRows * kOtherRows,
                end = sight.end_key(b, first, last, keys);
  for (int64_t k0 = begin; k0 < end; k0 += kOtherRows) {
    T products[kRows<T>];
    multiply_rows({query[first], query.stride}, last - first, {key[k0], key.stride}, keys - k0, dim,
                  own_tile, other_tile, products);
    const int64_t j = k0 + lane;
    T correction[kRows<T>];
    for (int r = 0; r < kRows<T>; ++r) {
      const int64_t i = first + own + r;
      const bool visible = i < last && j < keys && sight.sees(b, i, j);
      const T score = visible ? scores.score(products[r]).value : kLowest<T>;
      const T top = Maximum{}(softmax.top[r], over_warp(score, Maximum{}));
      const T weight = visible ? fmath::exp(score - top) : T(0);
      correction[r] = softmax.total[r] > T(0) ? fmath::exp(softmax.top[r] - top) : T(0);
      softmax.total[r] = softmax.total[r] * correction[r] + over_warp(weight, Sum{});
      softmax.top[r] = top;
      const uint64_t number =
          (head * uint64_t(queries) + uint64_t(i)) * uint64_t(keys) + uint64_t(j);
      weights[(own + r) * kOtherRows + lane] = weight * scores.factor(number);
    }
    __syncwarp();
    for (int r = 0; r < kRows<T>; ++r)
      for (int part = 0; part < kParts; ++part) softmax.sums[r][part] *= correction[r];
    add_weighted<kParts>(weights, {value[k0], value.stride}, keys - k0, dim, softmax.sums);
  }
}

// output [B, queries, H, D], log_sum_exp [B, H, queries].
template <class T, int kParts>
__device__ void finish(const Softmax<T, kParts>& softmax, int64_t b, int64_t h, int64_t heads,
                       int64_t first, int64_t last, int64_t queries, int64_t dim, T* output,
                       T* log_sum_exp) {
  const int lane = lane_number();
  for (int r = 0; r < kRows<T>; ++r) {
    const int64_t i = first + warp_number() * kRows<T> + r;
    if (i >= last) continue;
    const T inverse = T(1) / softmax.total[r];
    T* to = output + ((b * queries + i) * heads + h) * dim;
    for (int part = 0; part < kParts; ++part) {
      const int64_t d = part * kWarpSize + lane;
      if (d < dim) to[d] = softmax.sums[r][part] * inverse;
    }
    if (lane == 0)
      log_sum_exp[(b * heads + h) * queries + i] = softmax.top[r] + fmath::log(softmax.total[r]);
  }
}

struct Sizes {
  int64_t queries, keys, heads, group, dim, tiles;
};

template <class T, int kParts>
__global__ void REVERIE_ATTENTION_BOUNDS attention(Scores<T> scores, Causal sight, Sizes s,
                                                   Heads<const T> query, Heads<const T> key,
                                                   Heads<const T> value, T* output,
                                                   T* log_sum_exp) {
  REVERIE_ATTENTION_TILES(T);
  const int64_t head = blockIdx.x / s.tiles, b = head / s.heads, h = head % s.heads,
                first = blockIdx.x % s.tiles * kOwnRows<T>,
                last = first + kOwnRows<T> < s.queries ? first + kOwnRows<T> : s.queries;
  Softmax<T, kParts> softmax;
  softmax.begin();
  attend(scores, sight, b, uint64_t(head), first, last, s.queries, s.keys, s.dim, query.rows(b, h),
         key.rows(b, h / s.group), value.rows(b, h / s.group), own_tile, other_tile, weights,
         softmax);
  finish(softmax, b, h, s.heads, first, last, s.queries, s.dim, output, log_sum_exp);
}

void run_attention_forward(const AttentionForward& a) {
  if (a.options.bf16) {
    if (!cudnn_attention_forward(a)) tensor_attention_forward(a);
    return;
  }
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             output = writable(a.output), log_sum_exp = writable(a.log_sum_exp);
  if (query.count == 0) return;
  const int64_t window = a.options.window > 0 ? a.options.window : key.size[1];
  for_float(query.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t tiles = (query.size[1] + kOwnRows<T> - 1) / kOwnRows<T>;
    const Sizes s{query.size[1], key.size[1], query.size[2], query.size[2] / key.size[2],
                  query.size[3], tiles};
    with_parts("attention_forward", s.dim, [&](auto parts) {
      Launch(query.size[0] * s.heads * tiles, kAttentionThreads)(
          attention<T, decltype(parts)::value>, scores_of<T>(a.options),
          Causal{a.options.first_position, window}, s, heads_of<const T>(query),
          heads_of<const T>(key), heads_of<const T>(value), pointer<T>(output),
          pointer<T>(log_sum_exp));
    });
  });
}

template <class T, int kParts>
__global__ void REVERIE_ATTENTION_BOUNDS grouped_attention(
    Scores<T> scores, WithinGroup within, OfContext of_context, Sizes s, int64_t context,
    Heads<const T> query, Heads<const T> key, Heads<const T> value, Heads<const T> context_key,
    Heads<const T> context_value, T* output, T* log_sum_exp) {
  REVERIE_ATTENTION_TILES(T);
  const int64_t head = blockIdx.x / s.tiles, b = head / s.heads, h = head % s.heads,
                kv = h / s.group, first = blockIdx.x % s.tiles * kOwnRows<T>,
                last = first + kOwnRows<T> < s.queries ? first + kOwnRows<T> : s.queries;
  Softmax<T, kParts> softmax;
  softmax.begin();
  attend(scores, within, b, uint64_t(head), first, last, s.queries, s.keys, s.dim, query.rows(b, h),
         key.rows(b, kv), value.rows(b, kv), own_tile, other_tile, weights, softmax);
  attend(scores, of_context, b, uint64_t(head), first, last, s.queries, context, s.dim,
         query.rows(b, h), context_key.rows(b, kv), context_value.rows(b, kv), own_tile, other_tile,
         weights, softmax);
  finish(softmax, b, h, s.heads, first, last, s.queries, s.dim, output, log_sum_exp);
}

void run_grouped_attention_forward(const GroupedAttentionForward& a) {
  if (a.options.bf16) return tensor_grouped_attention_forward(a);
  const View query = view(a.query), key = view(a.key), value = view(a.value),
             context_key = view(a.context_key), context_value = view(a.context_value),
             limits = view(a.limits), output = writable(a.output),
             log_sum_exp = writable(a.log_sum_exp);
  if (query.count == 0) return;
  const int64_t rows = query.size[1], context = context_key.size[1];
  const Groups groups = groups_of(query, key, context_key, limits, a.options);
  for_float(query.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t tiles = (rows + kOwnRows<T> - 1) / kOwnRows<T>;
    const Sizes s{rows,          key.size[1], query.size[2], query.size[2] / key.size[2],
                  query.size[3], tiles};
    with_parts("grouped_attention_forward", s.dim, [&](auto parts) {
      Launch(query.size[0] * s.heads * tiles, kAttentionThreads)(
          grouped_attention<T, decltype(parts)::value>, scores_of<T>(a.options), groups.within,
          groups.of_context, s, context, heads_of<const T>(query), heads_of<const T>(key),
          heads_of<const T>(value), heads_of<const T>(context_key),
          heads_of<const T>(context_value), pointer<T>(output), pointer<T>(log_sum_exp));
    });
  });
}

REVERIE_CUDA_KERNEL(attention_forward, run_attention_forward);
REVERIE_CUDA_KERNEL(grouped_attention_forward, run_grouped_attention_forward);

}  // namespace
}  // namespace reverie::cuda
