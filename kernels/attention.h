#pragma once
/// Causal attention with tiles and an online softmax (Dao et al., FlashAttention, 2022): no T x T
/// matrix is stored.

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// query [B, Tq, H, D], key and value [B, Tk, Hkv, D]; any strides with the last dimension
/// contiguous, so that views into one packed qkv projection are taken as they are. H is a multiple
/// of Hkv (grouped queries: head h reads kv head h / (H / Hkv)). Query row i sits at position
/// first_position + i and sees keys 0 .. first_position + i (causal; Tk >= first_position + Tq).
/// dropout_p > 0: probability (b, h, i, j) is dropped by Philox number ((b * H + h) * Tq + i) * Tk +
/// j of the stream (seed, offset), as in `dropout`: number n is the (n % 4)th of block offset + n /
/// 4; kept ones are scaled by 1 / (1 - p).
/// softcap > 0: a scaled score s becomes softcap * tanh(s / softcap) before mask and softmax
/// (Gemma 2). window > 0: position p sees keys p - window + 1 .. p only, and blocks of keys outside
/// the window cost nothing. bf16: operands of products (query, key, value, weights; in the backward
/// pass dL/doutput and dL/dscores, too) are rounded to bf16, sums and all else are in f32, as is
/// every tensor.
struct AttentionOptions {
  double scale = 1;
  int64_t first_position = 0;
  double dropout_p = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
  double softcap = 0;
  int64_t window = 0;
  bool bf16 = false;
};
inline void demand_options(const Demands& demand, const AttentionOptions& o) {
  demand.probability(o.dropout_p);
  require(o.softcap >= 0 && std::isfinite(o.softcap),
          "{}: softcap is {}; wanted a positive number, or 0 for none", demand.kernel, o.softcap);
  require(o.window >= 0, "{}: window is {}; wanted a number of keys, or 0 for all", demand.kernel,
          o.window);
}
/// Products of head_dim for each pair of a query and a key that it sees. Backward: the scores once
/// more, and the gradients of weights, queries, keys and values.
inline constexpr double kForwardProducts = 2, kBackwardProducts = 5;
/// Such pairs, over all heads and the batch.
inline double visible_pairs(const Tensor& query, const AttentionOptions& o) {
  double pairs = 0;
  for (int64_t i = 0; i < query.size(1); ++i) {
    const int64_t seen = o.first_position + i + 1;
    pairs += double(o.window > 0 ? std::min(seen, o.window) : seen);
  }
  return double(query.size(0) * query.size(2)) * pairs;
}

/// output [B, Tq, H, D] contiguous, log_sum_exp [B, H, Tq] (of the scores that meet the
/// softmax, before dropout).
struct AttentionForward {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  AttentionOptions options;
  Tensor& output;
  Tensor& log_sum_exp;
};
inline void check(const AttentionForward& a) {
  const Demands demand{"attention_forward"};
  demand.heads("query", a.query);
  demand.heads("key", a.key);
  demand.heads("value", a.value);
  demand.alike("key", a.key, "query", a.query);
  demand.alike("value", a.value, "query", a.query);
  const int64_t batch = a.query.size(0), queries = a.query.size(1), heads = a.query.size(2),
                dim = a.query.size(3);
  demand.shape("value", a.value, a.key.shape());
  require(a.key.size(0) == batch && a.key.size(3) == dim,
          "{}: query {} and key {} differ in batch or head_dim", demand.kernel, a.query, a.key);
  require(a.key.size(2) > 0 && heads % a.key.size(2) == 0,
          "{}: {} query heads are not a multiple of {} key heads", demand.kernel, heads,
          a.key.size(2));
  require(a.options.first_position >= 0 && a.key.size(1) >= a.options.first_position + queries,
          "{}: queries at positions {}..{} need as many keys, got {}", demand.kernel,
          a.options.first_position, a.options.first_position + queries - 1, a.key.size(1));
  require(!a.options.bf16 || a.query.dtype() == DType::f32,
          "{}: products in bf16 are of f32 tensors; query is {}", demand.kernel, a.query);
  demand_options(demand, a.options);
  demand.buffer("output", a.output, a.query.numel(), "query", a.query);
  demand.buffer("log_sum_exp", a.log_sum_exp, batch * heads * queries, "query", a.query);
}
inline profile::Work work(const AttentionForward& a) {
  return computed(
      2 * kForwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.options), a.query,
      a.key, a.value, a.output, a.log_sum_exp);
}
namespace kernel {
inline constinit Kernel<AttentionForward> attention_forward{"attention_forward"};
}
/// grad_query, grad_key, grad_value: strided like the inputs (views into one packed gradient are
/// welcome); written, not added to. Deterministic.
struct AttentionBackward {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  const Tensor& output;
  const Tensor& log_sum_exp;
  const Tensor& grad_output;
  AttentionOptions options;
  Tensor& grad_query;
  Tensor& grad_key;
  Tensor& grad_value;
};
inline void check(const AttentionBackward& a) {
  const Demands demand{"attention_backward"};
  Tensor output = a.output, log_sum_exp = a.log_sum_exp;
  check(AttentionForward{a.query, a.key, a.value, a.options, output, log_sum_exp});
  demand.buffer("grad_output", a.grad_output, a.query.numel(), "query", a.query);
  for (const auto& [name, gradient, input] : {std::tuple{"grad_query", &a.grad_query, &a.query},
                                              std::tuple{"grad_key", &a.grad_key, &a.key},
                                              std::tuple{"grad_value", &a.grad_value, &a.value}}) {
    demand.heads(name, *gradient);
    demand.alike(name, *gradient, "query", a.query);
    demand.shape(name, *gradient, input->shape());
  }
}
inline profile::Work work(const AttentionBackward& a) {
  return computed(
      2 * kBackwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.options), a.query,
      a.key, a.value, a.output, a.log_sum_exp, a.grad_output, a.grad_query, a.grad_key,
      a.grad_value);
}
namespace kernel {
inline constinit Kernel<AttentionBackward> attention_backward{"attention_backward"};
}

/// Implementation of bf16 attention on device cuda: our kernels, or cuDNN where it serves the case
/// (no dropout, soft-cap or window; the last query sees the last key; head_dim a multiple of 8 up to
/// 128), which rounds the output and the gradients to bf16, too. Environment
/// REVERIE_ATTENTION=own|cudnn decides (own unless it is set; anything else, or a library this build
/// lacks, is ConfigError); set_attention_choice overrides.
enum class AttentionChoice : uint8_t { own, cudnn };
AttentionChoice attention_choice();
void set_attention_choice(AttentionChoice);
/// Name and version of that library, "" where this build has none.
std::string attention_library();

/// Attention of G groups of S rows, of which the last Q ask, that share a context (the packed
/// training of a KV-cache coprocessor, Liu et al. 2024, arXiv 2412.17747): group g of batch entry b
/// sees the first limits[b, g] keys of the entry's context and, causally, itself; never another
/// group. Its row s is at position limits[b, g] + s, which only a window looks at. query [B, G * Q,
/// H, D], key and value [B, G * S, Hkv, D] of the groups, context_key and context_value [B, T, Hkv,
/// D], all strided as above (a slice of a larger cache is taken as it is); limits i32 [B, G], each
/// in 0 .. T. Of the options, scale, softcap, window and bf16 count; dropout and first_position must
/// be 0. With bf16, operands of products may be rounded to bf16: cuda does, for its tensor cores,
/// the CPU does not. The cost is near that of the pairs that are seen, however short the groups.
/// output [B, G * Q, H, D] contiguous, log_sum_exp [B, H, G * Q].
struct GroupedAttentionForward {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  const Tensor& context_key;
  const Tensor& context_value;
  const Tensor& limits;
  AttentionOptions options;
  Tensor& output;
  Tensor& log_sum_exp;
};
/// Pairs of a query and a key of its context or, causally, its group. Windows are not counted.
inline double visible_pairs(const Tensor& query, const Tensor& key, const Tensor& limits) {
  const int64_t groups = limits.size(1);
  if (groups == 0) return 0;
  const int64_t queries_of_group = query.size(1) / groups, keys_of_group = key.size(1) / groups;
  const double queries = double(queries_of_group), size = double(keys_of_group);
  double context = 0;
  for (double limit : limits.to_vector()) context += limit;
  return double(query.size(2)) * (context * queries + double(query.size(0) * groups) * queries *
                                                          (2 * size - queries + 1) / 2);
}
inline void check(const GroupedAttentionForward& a) {
  const Demands demand{"grouped_attention_forward"};
  demand.heads("query", a.query);
  for (const auto& [name, t] :
       {std::pair{"key", &a.key}, std::pair{"value", &a.value},
        std::pair{"context_key", &a.context_key}, std::pair{"context_value", &a.context_value}}) {
    demand.heads(name, *t);
    demand.alike(name, *t, "query", a.query);
  }
  const int64_t batch = a.query.size(0), rows = a.query.size(1), heads = a.query.size(2),
                dim = a.query.size(3);
  require(
      a.key.size(0) == batch && a.key.size(1) >= rows && a.key.size(3) == dim && dim > 0,
      "{}: query {} and key {} differ in batch or head_dim, or there are more queries than keys",
      demand.kernel, a.query, a.key);
  require(a.key.size(2) > 0 && heads % a.key.size(2) == 0,
          "{}: {} query heads are not a multiple of {} key heads", demand.kernel, heads,
          a.key.size(2));
  demand.shape("value", a.value, a.key.shape());
  demand.shape("context_key", a.context_key, {batch, a.context_key.size(1), a.key.size(2), dim});
  demand.shape("context_value", a.context_value, a.context_key.shape());
  demand.defined("limits", a.limits);
  require(a.limits.rank() == 2 && a.limits.size(0) == batch && a.limits.size(1) > 0 && rows > 0 &&
              rows % a.limits.size(1) == 0 && a.key.size(1) % a.limits.size(1) == 0,
          "{}: limits is {}; wanted [{}, groups], where the groups share {} queries and {} keys "
          "evenly",
          demand.kernel, a.limits, batch, rows, a.key.size(1));
  demand.integers("limits", a.limits, a.limits.numel(), a.query);
  demand.within("limits", a.limits, 0, a.context_key.size(1) + 1);
  demand_options(demand, a.options);
  require(a.options.dropout_p == 0 && a.options.first_position == 0,
          "{}: takes no dropout ({}) and no first position ({}); limits place the groups",
          demand.kernel, a.options.dropout_p, a.options.first_position);
  require(!a.options.bf16 || a.query.dtype() == DType::f32,
          "{}: products in bf16 are of f32 tensors; query is {}", demand.kernel, a.query);
  demand.buffer("output", a.output, a.query.numel(), "query", a.query);
  demand.buffer("log_sum_exp", a.log_sum_exp, batch * heads * rows, "query", a.query);
}
inline profile::Work work(const GroupedAttentionForward& a) {
  return computed(
      2 * kForwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.key, a.limits),
      a.query, a.key, a.value, a.context_key, a.context_value, a.output, a.log_sum_exp);
}
namespace kernel {
inline constinit Kernel<GroupedAttentionForward> grouped_attention_forward{
    "grouped_attention_forward"};
}
/// Gradients are strided like the inputs and written, not added to; an undefined one is not computed
/// (those of the context, where it comes from a frozen base). Deterministic.
struct GroupedAttentionBackward {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  const Tensor& context_key;
  const Tensor& context_value;
  const Tensor& limits;
  const Tensor& output;
  const Tensor& log_sum_exp;
  const Tensor& grad_output;
  AttentionOptions options;
  Tensor& grad_query;
  Tensor& grad_key;
  Tensor& grad_value;
  Tensor& grad_context_key;
  Tensor& grad_context_value;
};
inline void check(const GroupedAttentionBackward& a) {
  const Demands demand{"grouped_attention_backward"};
  Tensor output = a.output, log_sum_exp = a.log_sum_exp;
  check(GroupedAttentionForward{a.query, a.key, a.value, a.context_key, a.context_value, a.limits,
                                a.options, output, log_sum_exp});
  demand.buffer("grad_output", a.grad_output, a.query.numel(), "query", a.query);
  for (const auto& [name, gradient, input] :
       {std::tuple{"grad_query", &a.grad_query, &a.query},
        std::tuple{"grad_key", &a.grad_key, &a.key},
        std::tuple{"grad_value", &a.grad_value, &a.value},
        std::tuple{"grad_context_key", &a.grad_context_key, &a.context_key},
        std::tuple{"grad_context_value", &a.grad_context_value, &a.context_value}}) {
    if (!gradient->defined()) continue;
    demand.heads(name, *gradient);
    demand.alike(name, *gradient, "query", a.query);
    demand.shape(name, *gradient, input->shape());
  }
}
inline profile::Work work(const GroupedAttentionBackward& a) {
  return computed(
      2 * kBackwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.key, a.limits),
      a.query, a.key, a.value, a.context_key, a.context_value, a.output, a.log_sum_exp,
      a.grad_output, a.grad_query, a.grad_key, a.grad_value, a.grad_context_key,
      a.grad_context_value);
}
namespace kernel {
inline constinit Kernel<GroupedAttentionBackward> grouped_attention_backward{
    "grouped_attention_backward"};
}

/// Rotary positions (Su et al. 2021), the half-split form of Llama in Hugging Face: x [B, T, H, D]
/// (strided, last contiguous) -> y likewise; pair (d, d + D/2) of row (b, t) turns by angle
/// positions[b, t] * frequencies[d] (in double); inverse: by minus that angle (the backward pass).
/// positions: i32 [T], of every batch entry, or [B, T]; none negative. frequencies: f64 [D/2],
/// base^(-2d/D) where nothing is scaled. y may be x.
struct Rope {
  const Tensor& x;
  const Tensor& positions;
  const Tensor& frequencies;
  bool inverse;
  Tensor& y;
};
inline void check(const Rope& a) {
  const Demands demand{"rope"};
  demand.heads("x", a.x);
  demand.heads("y", a.y);
  demand.alike("y", a.y, "x", a.x);
  demand.shape("y", a.y, a.x.shape());
  require(a.x.size(3) % 2 == 0, "rope: head_dim is {}; wanted an even number", a.x.size(3));
  demand.integers("positions", a.positions, a.positions.numel(), a.x);
  require(a.positions.shape() == Shape{a.x.size(1)} ||
              a.positions.shape() == Shape{a.x.size(0), a.x.size(1)},
          "rope: positions is {}; wanted [{}] or [{}, {}] to go with x {}", a.positions,
          a.x.size(1), a.x.size(0), a.x.size(1), a.x);
  demand.within("positions", a.positions, 0, int64_t(1) << 31);
  demand.contiguous("frequencies", a.frequencies);
  require(a.frequencies.dtype() == DType::f64 && a.frequencies.numel() == a.x.size(3) / 2 &&
              a.frequencies.device() == a.x.device(),
          "rope: frequencies is {}; wanted f64[{}], one a pair, beside x {}", a.frequencies,
          a.x.size(3) / 2, a.x);
}
inline profile::Work work(const Rope& a) {
  return touched(a.x, a.positions, a.frequencies, a.y);
}
namespace kernel {
inline constinit Kernel<Rope> rope{"rope"};
}

}  // namespace reverie
