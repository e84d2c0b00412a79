#pragma once
// Causal attention with tiles and an online softmax (Dao et al., FlashAttention, 2022): no T x T
// matrix is stored.

#include <string>

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// query [B, Tq, H, D], key and value [B, Tk, Hkv, D]; any strides with the last dimension
// contiguous, so that views into one packed qkv projection are taken as they are. H is a multiple
// of Hkv (grouped queries: head h reads kv head h / (H / Hkv)). Query row i sits at position
// first_position + i and sees keys 0 .. first_position + i (causal; Tk >= first_position + Tq).
// dropout_p > 0: probability (b, h, i, j) is dropped by Philox number ((b * H + h) * Tq + i) * Tk +
// j of the stream (seed, offset), as in `dropout`: number n is the (n % 4)th of block offset + n /
// 4; kept ones are scaled by 1 / (1 - p).
// softcap > 0: a scaled score s becomes softcap * tanh(s / softcap) before mask and softmax
// (Gemma 2). window > 0: position p sees keys p - window + 1 .. p only, and blocks of keys outside
// the window cost nothing. bf16: operands of products (query, key, value, weights; in the backward
// pass dL/doutput and dL/dscores, too) are rounded to bf16, sums and all else are in f32, as is
// every tensor.
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
// output [B, Tq, H, D] contiguous, log_sum_exp [B, H, Tq] (of the scores that meet the
// softmax, before dropout).
struct AttentionForward {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  AttentionOptions options;
  Tensor& output;
  Tensor& log_sum_exp;
};
void check(const AttentionForward&);
profile::Work work(const AttentionForward&);
namespace kernel {
inline constinit Kernel<AttentionForward> attention_forward{"attention_forward"};
}
// grad_query, grad_key, grad_value: strided like the inputs (views into one packed gradient are
// welcome); written, not added to. Deterministic.
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
void check(const AttentionBackward&);
profile::Work work(const AttentionBackward&);
namespace kernel {
inline constinit Kernel<AttentionBackward> attention_backward{"attention_backward"};
}

// Implementation of bf16 attention on device cuda: our kernels, or cuDNN where it serves the case
// (no dropout, soft-cap or window; the last query sees the last key; head_dim a multiple of 8 up to
// 128), which rounds the output and the gradients to bf16, too. Environment
// REVERIE_ATTENTION=own|cudnn decides (own unless it is set; anything else, or a library this build
// lacks, is ConfigError); set_attention_choice overrides.
enum class AttentionChoice : uint8_t { own, cudnn };
AttentionChoice attention_choice();
void set_attention_choice(AttentionChoice);
// Name and version of that library, "" where this build has none.
std::string attention_library();

// Attention of G groups of S rows, of which the last Q ask, that share a context (the packed
// training of a KV-cache coprocessor, Liu et al. 2024, arXiv 2412.17747): group g of batch entry b
// sees the first limits[b, g] keys of the entry's context and, causally, itself; never another
// group. Its row s is at position limits[b, g] + s, which only a window looks at. query [B, G * Q,
// H, D], key and value [B, G * S, Hkv, D] of the groups, context_key and context_value [B, T, Hkv,
// D], all strided as above (a slice of a larger cache is taken as it is); limits i32 [B, G], each
// in 0 .. T. Of the options, scale, softcap, window and bf16 count; dropout and first_position must
// be 0. With bf16, operands of products may be rounded to bf16: cuda does, for its tensor cores,
// the CPU does not. The cost is near that of the pairs that are seen, however short the groups.
// output [B, G * Q, H, D] contiguous, log_sum_exp [B, H, G * Q].
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
void check(const GroupedAttentionForward&);
profile::Work work(const GroupedAttentionForward&);
namespace kernel {
inline constinit Kernel<GroupedAttentionForward> grouped_attention_forward{
    "grouped_attention_forward"};
}
// Gradients are strided like the inputs and written, not added to; an undefined one is not computed
// (those of the context, where it comes from a frozen base). Deterministic.
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
void check(const GroupedAttentionBackward&);
profile::Work work(const GroupedAttentionBackward&);
namespace kernel {
inline constinit Kernel<GroupedAttentionBackward> grouped_attention_backward{
    "grouped_attention_backward"};
}

// Rotary positions (Su et al. 2021), the half-split form of Llama in Hugging Face: x [B, T, H, D]
// (strided, last contiguous) -> y likewise; pair (d, d + D/2) of row (b, t) turns by angle
// positions[b, t] * frequencies[d] (in double); inverse: by minus that angle (the backward pass).
// positions: i32 [T], of every batch entry, or [B, T]; none negative. frequencies: f64 [D/2],
// base^(-2d/D) where nothing is scaled. y may be x.
struct Rope {
  const Tensor& x;
  const Tensor& positions;
  const Tensor& frequencies;
  bool inverse;
  Tensor& y;
};
void check(const Rope&);
profile::Work work(const Rope&);
namespace kernel {
inline constinit Kernel<Rope> rope{"rope"};
}

}  // namespace reverie
