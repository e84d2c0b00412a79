#pragma once
// What attention.cpp and attention_bf16.cpp share: who sees whom, and how the work is cut.

#include "kernels/attention.h"
#include "kernels/cpu/isa/attention_tiles.h"
#include "kernels/cpu/isa/dropout.h"

namespace reverie::cpu::REVERIE_ISA {

struct Problem {
  int64_t batch, queries, keys, heads, kv_heads, dim, group, first, window;
  bool drops;
  DropoutStream dropout;

  // Query i sees keys [lowest(i), first + i].
  int64_t lowest(int64_t i) const { return larger<int64_t>(0, first + i - window + 1); }
  int64_t first_block(int64_t i) const { return lowest(i) / kBlock * kBlock; }
  // Queries from here on see nothing of the keys before `key`.
  int64_t beyond(int64_t key) const { return key - 1 + window - first; }
  Span span(int64_t i, int64_t k0, int64_t block) const {
    return span_of(first + i - window + 1, first + i + 1, k0, block);
  }
};
static inline Problem problem_of(const View& query, const View& key, const AttentionOptions& o) {
  return {query.size[0],
          query.size[1],
          key.size[1],
          query.size[2],
          key.size[2],
          query.size[3],
          query.size[2] / key.size[2],
          o.first_position,
          o.window > 0 ? smaller(o.window, key.size[1]) : key.size[1],
          o.dropout_p > 0,
          dropout_stream(o.dropout_p, o.seed, o.offset)};
}
inline constexpr int64_t kDropoutRoom = kBlock + kDropoutSlack;

// Number of the first probability of row i of head h.
static inline uint64_t dropout_number(const Problem& p, int64_t b, int64_t h, int64_t i) {
  return (uint64_t(b * p.heads + h) * uint64_t(p.queries) + uint64_t(i)) * uint64_t(p.keys);
}

// Tasks of the forward pass: heads, and where there are few of them, runs of queries within.
struct ForwardCuts {
  int64_t size, count;
};
static inline ForwardCuts forward_cuts(const Problem& p) {
  const int64_t size = p.batch * p.heads >= 32
                           ? p.queries
                           : larger<int64_t>(4 * kBlock, round_up((p.queries + 7) / 8, kTileRows));
  return {size, (p.queries + size - 1) / size};
}

// Rows of one head of a contiguous [B, T, H, D] tensor.
template <class T>
static inline Rows<T> contiguous_head(const View& v, const Problem& p, int64_t b, int64_t h) {
  return {pointer<T>(v) + (b * p.queries * p.heads + h) * p.dim, p.heads * p.dim};
}

template <class T>
static inline void clear(Rows<T> rows, int64_t begin, int64_t end, int64_t dim) {
  for (int64_t i = begin; i < end; ++i)
    for (int64_t d = 0; d < dim; ++d) rows[i][d] = 0;
}

}  // namespace reverie::cpu::REVERIE_ISA
