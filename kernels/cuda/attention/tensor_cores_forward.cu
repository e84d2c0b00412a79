#include "kernels/cuda/attention/tensor_cores.cuh"

namespace reverie::cuda {
namespace {

constexpr float kLowest = -3.0e38f;

// The online softmax of the lane's two rows, and their weighted sums of values so far.
template <int kDim>
struct Softmax {
  float top[2] = {kLowest, kLowest}, total[2] = {0, 0};
  Product sums[kDim / 8] = {};
};

struct Sizes {
  int64_t queries, heads, group, dim;
};

// The queries, whose tile is at word 0, meet the keys of one kind that they see.
template <int kDim, class Sight, class Tile>
__device__ void attend(const Scores<float>& scores, const Sight& sight, const Place& at,
                       const Sizes& s, const Keys<float>& k, bool packs, Tile& tile,
                       Softmax<kDim>& softmax) {
  using T = Tiles<kDim>;
  constexpr int kOthers = T::others, kKeys = T::words(kTileRows),
                kValues = kKeys + T::words(kOthers);
  const int own = warp_number() * 16;
  const Rows<const float> keys = k.key.rows(at.b, at.h / s.group),
                          values = k.value.rows(at.b, at.h / s.group);
  const int64_t begin = sight.first_key(at.b, at.first, at.last) / kOthers * kOthers,
                end = sight.end_key(at.b, at.first, at.last, k.count);
  for (int64_t k0 = begin; k0 < end; k0 += kOthers) {
    __syncthreads();  // the tiles may be in use
    fill_tile<kDim>(tile, kKeys, kOthers, {keys[k0], keys.stride}, k.count - k0, s.dim, packs);
    fill_tile<kDim>(tile, kValues, kOthers, {values[k0], values.stride}, k.count - k0, s.dim,
                    packs);
    __syncthreads();
    Product weights[kOthers / 8];
    multiply_tiles<kDim, kOthers>(weights, tile, T::words(own), kKeys, s.dim);

    float highest[2] = {softmax.top[0], softmax.top[1]};
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = at.first + own + row_of(i), j = k0 + column_of(n, i);
        float& score = weights[n].at[i];
        score = row < at.last && j < k.count && sight.sees(at.b, row, j) ? scores.score(score).value
                                                                         : kLowest;
        highest[i / 2] = Maximum{}(highest[i / 2], score);
      }
    float correction[2], of_tile[2] = {0, 0};
    for (int r = 0; r < 2; ++r) {
      highest[r] = over_row(highest[r], Maximum{});
      correction[r] = softmax.total[r] > 0 ? fmath::exp(softmax.top[r] - highest[r]) : 0.0f;
      softmax.top[r] = highest[r];
    }
    REVERIE_UNROLL
    for (int n = 0; n < kOthers / 8; ++n)
      for (int i = 0; i < 4; ++i) {
        const int64_t row = at.first + own + row_of(i), j = k0 + column_of(n, i);
        float& weight = weights[n].at[i];
        weight = weight == kLowest ? 0.0f : fmath::exp(weight - softmax.top[i / 2]);
        of_tile[i / 2] += weight;
        weight *= scores.factor((uint64_t(at.head) * uint64_t(s.queries) + uint64_t(row)) *
                                    uint64_t(k.count) +
                                uint64_t(j));
      }
    for (int r = 0; r < 2; ++r)
      softmax.total[r] = softmax.total[r] * correction[r] + over_row(of_tile[r], Sum{});
    REVERIE_UNROLL
    for (Product& sum : softmax.sums)
      for (int i = 0; i < 4; ++i) sum.at[i] *= correction[i / 2];
    add_weighted_rows<kDim, kOthers, kDim>(softmax.sums, weights, tile, kValues, 0, s.dim);
  }
}

// output [B, queries, H, D], log_sum_exp [B, H, queries]. Keys of a second kind (the context of
// groups) may be none.
template <int kDim, class Sight, class OtherSight>
__global__ void REVERIE_ATTENTION_BOUNDS tensor_attention(Scores<float> scores, Sight sight,
                                                          OtherSight other_sight, Sizes s,
                                                          Heads<const float> query, Keys<float> k,
                                                          Keys<float> others, bool packs,
                                                          float* output, float* log_sum_exp) {
  REVERIE_DYNAMIC_SHARED(uint32_t, tile, Tiles<kDim>::words(kTileRows + 2 * Tiles<kDim>::others));
  const Place at(s.heads, s.queries);
  fill_tile<kDim>(tile, 0, kTileRows, {query.rows(at.b, at.h)[at.first], query.row},
                  at.last - at.first, s.dim, packs);
  Softmax<kDim> softmax;
  attend(scores, sight, at, s, k, packs, tile, softmax);
  if (others.count > 0) attend(scores, other_sight, at, s, others, packs, tile, softmax);

  const float inverse[2] = {1 / softmax.total[0], 1 / softmax.total[1]};
  const int64_t row = at.first + warp_number() * 16;
  write_sums<kDim>(softmax.sums, inverse, at.last - row, s.dim, 0,
                   {output + ((at.b * s.queries + row) * s.heads + at.h) * s.dim, s.heads * s.dim});
  for (int r = 0; r < 2; ++r)
    if (lane_number() % 4 == 0 && row + row_of(2 * r) < at.last)
      log_sum_exp[at.head * s.queries + row + row_of(2 * r)] =
          softmax.top[r] + fmath::log(softmax.total[r]);
}

template <class Sight, class OtherSight>
void run(const char* op, const AttentionOptions& options, const Sight& sight,
         const OtherSight& other_sight, const View& query, const Keys<float>& k,
         const Keys<float>& others, int64_t kv_heads, Tensor& output, Tensor& log_sum_exp) {
  const Sizes s{query.size[1], query.size[2], query.size[2] / kv_heads, query.size[3]};
  const auto q = heads_of<const float>(query);
  const bool packs = on_packs({q, k.key, k.value, others.key, others.value});
  with_dim(op, s.dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    Launch(query.size[0] * s.heads * tiles_of(s.queries), kAttentionThreads)
        .with_shared(sizeof(uint32_t) * Tiles<kDim>::words(kTileRows + 2 * Tiles<kDim>::others))(
            tensor_attention<kDim, Sight, OtherSight>, scores_of<float>(options), sight,
            other_sight, s, q, k, others, packs, pointer<float>(writable(output)),
            pointer<float>(writable(log_sum_exp)));
  });
}

}  // namespace

void tensor_attention_forward(const AttentionForward& a) {
  const View query = view(a.query), key = view(a.key);
  if (query.count == 0) return;
  const Causal sight{a.options.first_position,
                     a.options.window > 0 ? a.options.window : key.size[1]};
  run("attention_forward", a.options, sight, sight, query, keys_of<float>(key, view(a.value)),
      Keys<float>{}, key.size[2], a.output, a.log_sum_exp);
}

void tensor_grouped_attention_forward(const GroupedAttentionForward& a) {
  const View query = view(a.query), key = view(a.key);
  if (query.count == 0) return;
  const Groups groups = groups_of(query, key, view(a.context_key), view(a.limits), a.options);
  run("grouped_attention_forward", a.options, groups.within, groups.of_context, query,
      keys_of<float>(key, view(a.value)),
      keys_of<float>(view(a.context_key), view(a.context_value)), key.size[2], a.output,
      a.log_sum_exp);
}

}  // namespace reverie::cuda
