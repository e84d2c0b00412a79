#pragma once
// Causal attention and rotary positions.

#include "autograd/op.h"

namespace reverie {

struct AttentionSpec {
  int64_t heads = 1, kv_heads = 1;
  double scale = 0;            // 0: 1 / sqrt(head_dim)
  double dropout = 0;          // of probabilities; draws from default_generator()
  int64_t first_position = 0;  // of the first query row
};

// qkv [B, T, (heads + 2 kv_heads) * D], one projection's output: query heads, then key heads, then
// value heads -> [B, T, heads * D]. Read in place, and its gradient written in place: nothing is
// split or joined.
Variable packed_attention(const Variable& qkv, const AttentionSpec&);

// query [B, Tq, heads * D], key and value [B, Tk, kv_heads * D] -> [B, Tq, heads * D]. Query row i
// is at first_position + i and sees keys up to there.
Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const AttentionSpec&);

// Rotary positions (Su et al. 2021, half-split pairs): x [B, T, heads * D]; row t is at
// first_position + t.
Variable rope(const Variable& x, int64_t heads, double base, int64_t first_position);

}  // namespace reverie
