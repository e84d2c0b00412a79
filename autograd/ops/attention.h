#pragma once
/// Causal attention and rotary positions.

#include "autograd/op.h"

namespace reverie {

struct AttentionSpec {
  int64_t heads = 1, kv_heads = 1;
  double scale = 0;            ///< 0: 1 / sqrt(head_dim)
  double dropout = 0;          ///< of probabilities; draws from default_generator()
  int64_t first_position = 0;  ///< of the first query row
  double softcap = 0;          ///< scaled score s -> softcap * tanh(s / softcap) (Gemma 2); 0: none
  int64_t window = 0;          ///< position p sees keys p - window + 1 .. p; 0: all up to p
};

/// qkv [B, T, (heads + 2 kv_heads) * D], one projection's output: query heads, then key heads, then
/// value heads -> [B, T, heads * D]. Read in place, and its gradient written in place: nothing is
/// split or joined.
Variable packed_attention(const Variable& qkv, const AttentionSpec&);

/// query [B, Tq, heads * D], key and value [B, Tk, kv_heads * D] -> [B, Tq, heads * D]. Query row i
/// is at first_position + i and sees keys up to there.
Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const AttentionSpec&);

/// G groups of S rows over a shared context, the last Q of which ask: query [B, G * Q, heads * D],
/// key and value [B, G * S, kv_heads * D] of the groups; context_key and context_value [B, T,
/// kv_heads * D], or [B, T, kv_heads, D] with any strides, such as a slice of a larger cache; limits
/// i32 [B, G] -> [B, G * Q, heads * D]. Group g of entry b sees context keys 0 .. limits[b, g] - 1,
/// sits at the positions that follow, and sees itself causally and no other group. No dropout, no
/// first_position. Where the context needs no gradient (a frozen base), none is computed.
Variable grouped_attention(const Variable& query, const Variable& key, const Variable& value,
                           const Variable& context_key, const Variable& context_value,
                           const Tensor& limits, const AttentionSpec&);

/// Rotary positions (Su et al. 2021, half-split pairs): x [B, T, heads * D]; pair (d, d + D/2) of
/// row t turns by positions[t] * frequencies[d]. positions: i32 [T] or [B, T]; frequencies: f64
/// [D/2]. Neither is differentiated.
Variable rope(const Variable& x, int64_t heads, const Tensor& positions, const Tensor& frequencies);
/// The common case: rows at first_position, first_position + 1, ..; frequencies of `base`.
Variable rope(const Variable& x, int64_t heads, double base, int64_t first_position);
/// f64 [dim / 2]: base^(-2d / dim), what schemes that scale rotary positions start from.
Tensor rope_frequencies(int64_t dim, double base);

}  // namespace reverie
