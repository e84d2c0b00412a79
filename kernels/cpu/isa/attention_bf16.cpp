#include "kernels/cpu/isa/attention_bf16.h"

#include "kernels/cpu/isa/attention_problem.h"
#include "kernels/cpu/isa/pair_tiles.h"

// As attention.cpp: the same blocks, tiles and order of sums. Query, key, value and dL/doutput are
// rounded once a head (keys and values once for each run of queries); weights and dL/dscores, tile
// by tile.

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Rows of one head, [count, dim], rounded, in the two forms that products want: `along` pairs
// neighbours of a row, [count, pairs]; `across` pairs rows 2i and 2i + 1, [count / 2 rounded up,
// width].
struct Layout {
  int64_t dim, pairs, width;
  explicit Layout(int64_t d) : dim(d), pairs((d + 1) / 2), width(round_up(d, kLanes<float>)) {}
  int64_t along(int64_t count) const { return count * pairs; }
  int64_t across(int64_t count) const { return (count + 1) / 2 * width; }
};
void round_rows_along(const Layout& layout, Rows<float> rows, int64_t count, Pair* to) {
  for (int64_t i = 0; i < count; ++i) round_along(rows[i], layout.dim, to + i * layout.pairs);
}
void round_rows_across(const Layout& layout, Rows<float> rows, int64_t count, Pair* to) {
  for (int64_t i = 0; i < count; i += 2) {
    Pair* line = to + i / 2 * layout.width;
    if (i + 1 < count)
      round_across(rows[i], rows[i + 1], layout.dim, line);
    else
      round_across(rows[i], layout.dim, line);
    for (int64_t d = layout.dim; d < layout.width; ++d) line[d] = 0;
  }
}
// Panels to multiply by the rows' transpose; `room` takes along(count).
void pack_rounded(const Layout& layout, Rows<float> rows, int64_t count, Pair* room, Pair* packed) {
  round_rows_along(layout, rows, count, room);
  pack_rows(Rows<Pair>{room, layout.pairs}, count, layout.pairs, packed);
}

// to [rows, columns rounded up to vectors] = alpha * left times the packed rows.
template <bool kDots>
void multiply_packed(const Layout& layout, int64_t rows, const Pair* left, const Pair* packed,
                     int64_t columns, float alpha, float* to) {
  constexpr int64_t kWidth = kTileColumns<float>;
  for (int64_t j = 0; j < columns; j += kWidth)
    pair_product<kDots>(rows, layout.pairs, {left, layout.pairs, 1}, packed + j * layout.pairs,
                        kWidth, alpha, Into::overwrite, to + j, kBlock,
                        smaller<int64_t>(kWidth, round_up(columns - j, kLanes<float>)));
}
// to [rows, dim] = or += left [rows, depth pairs] times right, rows paired across.
template <bool kDots>
void multiply_rows(const Layout& layout, int64_t rows, int64_t depth, LeftPairs left,
                   const Pair* right, Into into, Rows<float> to) {
  constexpr int64_t kWidth = kTileColumns<float>;
  for (int64_t d = 0; d < layout.dim; d += kWidth)
    pair_product<kDots>(rows, depth, left, right + d, layout.width, 1.0f, into, to.data + d,
                        to.stride, smaller(kWidth, layout.dim - d));
}

// Working memory for pairs and numbers, which are of one size.
struct Room {
  Arena<float> arena;
  float* numbers(int64_t count) { return arena.take(count); }
  Pair* pairs(int64_t count) { return reinterpret_cast<Pair*>(arena.take(count)); }
};
// `count` numbers in at most `takes` takes.
Room room_for(int64_t count, int takes) {
  return {{static_cast<float*>(scratch(Slot::local, size_t(count + takes * 16) * sizeof(float)))}};
}

// Queries [begin, end) of one head.
template <bool kDots>
void forward_head(const Problem& p, float scale, float cap, int64_t b, int64_t h, int64_t begin,
                  int64_t end, Rows<float> query, Rows<float> key, Rows<float> value,
                  Rows<float> output, float* log_sum_exp, const NextHead<float>& next) {
  const Layout layout(p.dim);
  const int64_t count = end - begin;
  Room room = room_for(layout.along(count) + 2 * layout.along(kBlock) + layout.across(kBlock) +
                           kTileRows * kBlock * 3 / 2 + 2 * count + kDropoutRoom,
                       9);
  Pair *queries = room.pairs(layout.along(count)), *keys = room.pairs(layout.along(kBlock)),
       *packed_key = room.pairs(layout.along(kBlock)), *values = room.pairs(layout.across(kBlock)),
       *weights = room.pairs(kTileRows * kBlock / 2);
  float* scores = room.numbers(kTileRows * kBlock);
  const SoftmaxOfRows<float> softmax{.p = p,
                                     .cap = cap,
                                     .b = b,
                                     .h = h,
                                     .begin = begin,
                                     .output = output,
                                     .tops = room.numbers(count),
                                     .totals = room.numbers(count),
                                     .factors = room.numbers(kDropoutRoom)};
  round_rows_along(layout, query.from(begin), count, queries);
  softmax.start(count);
  for (int64_t k0 = p.first_block(begin); k0 < p.first + end; k0 += kBlock) {
    const int64_t block = smaller(kBlock, p.keys - k0);
    pack_rounded(layout, key.from(k0), block, keys, packed_key);
    round_rows_across(layout, value.from(k0), block, values);
    const int64_t first_row =
        larger(begin, k0 - p.first);  // earlier ones see nothing of this block
    const int64_t last_row = smaller(end, p.beyond(k0 + block));
    for (int64_t i = begin + (first_row - begin) / kTileRows * kTileRows; i < last_row;
         i += kTileRows) {
      const bool fresh = k0 == p.first_block(i);
      const int64_t rows = smaller<int64_t>(kTileRows, end - i);
      const int64_t most = smaller(block, p.first + i + rows - k0),
                    padded = round_up(most, kLanes<float>);
      multiply_packed<kDots>(layout, rows, queries + layout.along(i - begin), packed_key, most,
                             scale, scores);
      for (int64_t r = 0; r < rows; ++r) {
        float* row = scores + r * kBlock;
        softmax.weigh(row, i + r, k0, block, most, padded, fresh);
        round_along(row, most, weights + r * kBlock / 2);
        if (p.on_diagonal(i + r, k0)) next.prefetch(i + r);
      }
      multiply_rows<kDots>(layout, rows, (most + 1) / 2, {weights, kBlock / 2, 1}, values,
                           fresh ? Into::overwrite : Into::add, output.from(i));
    }
  }
  softmax.finish(count, log_sum_exp);
}

template <bool kDots>
void forward(const AttentionForward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value),
             output = writable(args.output), log_sum_exp = writable(args.log_sum_exp);
  const Problem p = problem_of(query, key, args.options);
  if (query.count == 0) return;
  const ForwardCuts cuts = forward_cuts(p);
  for_each(p.batch * p.heads * cuts.count, smaller(cuts.size, p.queries) * p.keys * p.dim / 8,
           [&](int64_t task) {
             const int64_t head = task / cuts.count, b = head / p.heads, h = head % p.heads;
             const int64_t begin = task % cuts.count * cuts.size,
                           end = smaller(p.queries, begin + cuts.size);
             forward_head<kDots>(
                 p, float(args.options.scale), float(args.options.softcap), b, h, begin, end,
                 head_rows<float>(query, b, h), head_rows<float>(key, b, h / p.group),
                 head_rows<float>(value, b, h / p.group), contiguous_head<float>(output, p, b, h),
                 pointer<float>(log_sum_exp) + head * p.queries,
                 NextHead<float>(p, cuts.count == 1 ? head + 1 : kNoHead, {&query, &output},
                                 {&key, &value}));
           });
}

// One query head against one block of keys: what backward_chunk reads and writes.
struct Backward {
  const Problem& p;
  Layout layout;
  float scale, cap;
  int64_t b, h = 0;
  // Of the head, and of the block of keys.
  Pair *query_along, *query_across, *gradient_along, *gradient_across;
  Pair *packed_key, *packed_value, *key_across;
  const float *log_sum_exp = nullptr, *delta = nullptr;
  Rows<float> grad_query = {}, grad_key, grad_value;
  // Of one tile; of a chunk of queries, pairs of whose rows lie together.
  float *tile_weights, *tile_grad_scores, *factors;
  Pair *tile_grad_pairs, *weights, *grad_scores;
  const NextHead<float>* next = nullptr;
};

// Weights and dL/dscores of queries [i, i + rows), of a chunk's rows from `row` on, against the
// block of keys at k0.
template <bool kDots>
void recompute(const Backward& w, int64_t i, int64_t rows, int64_t k0, int64_t block, int64_t row) {
  const int64_t most = smaller(block, w.p.first + i + rows - k0);
  multiply_packed<kDots>(w.layout, rows, w.query_along + w.layout.along(i), w.packed_key, most,
                         w.scale, w.tile_weights);
  multiply_packed<kDots>(w.layout, rows, w.gradient_along + w.layout.along(i), w.packed_value, most,
                         1.0f, w.tile_grad_scores);
  // Tiles of keys reach beyond the diagonal by less than a tile: zeros there.
  const int cleared = int(smaller(kBlock, round_up(most + kTileRows, kLanes<float>)));
  for (int64_t r = 0; r < rows; ++r) {
    const float* factor = w.factors;  // ones, unless drawn
    if (w.p.drops)
      factor = draw_dropout(w.p.dropout, dropout_number(w.p, w.b, w.h, i + r) + uint64_t(k0),
                            kBlock, w.factors);
    weigh_row(w.tile_weights + r * kBlock, w.tile_grad_scores + r * kBlock,
              w.p.span(i + r, k0, block), cleared,
              ScoreRow<float>{w.log_sum_exp[i + r], w.delta[i + r], w.scale, w.cap, factor});
    round_along(w.tile_grad_scores + r * kBlock, most, w.tile_grad_pairs + r * kBlock / 2);
    if (w.p.on_diagonal(i + r, k0)) w.next->prefetch(i + r);
  }
  for (int64_t r = 0; r < rows; r += 2) {
    const int64_t to = (row + r) / 2 * kBlock, from = r * kBlock, below = from + kBlock;
    if (r + 1 < rows) {
      round_across(w.tile_weights + from, w.tile_weights + below, cleared, w.weights + to);
      round_across(w.tile_grad_scores + from, w.tile_grad_scores + below, cleared,
                   w.grad_scores + to);
    } else {
      round_across(w.tile_weights + from, cleared, w.weights + to);
      round_across(w.tile_grad_scores + from, cleared, w.grad_scores + to);
    }
  }
}

// Adds queries [begin, end)'s share to the gradients of the block of keys and values at k0, and the
// block's to the queries'. `begin` is a multiple of kBlock.
template <bool kDots>
void backward_chunk(const Backward& w, int64_t begin, int64_t end, int64_t k0, int64_t block,
                    Into into) {
  const Problem& p = w.p;
  static_assert(kTileRows % 2 == 0, "tiles of queries hold whole pairs");
  for (int64_t i = begin; i < end; i += kTileRows) {
    const int64_t rows = smaller<int64_t>(kTileRows, end - i), row = i - begin,
                  most = smaller(block, p.first + i + rows - k0);
    if (most <= 0) {
      // The last of them may be paired with the first query that does see something.
      for (int64_t at = row / 2 * kBlock; at < (row + rows + 1) / 2 * kBlock; ++at)
        w.weights[at] = w.grad_scores[at] = 0;
      continue;
    }
    if (i >= p.beyond(k0 + block)) break;
    recompute<kDots>(w, i, rows, k0, block, row);
    multiply_rows<kDots>(w.layout, rows, (most + 1) / 2, {w.tile_grad_pairs, kBlock / 2, 1},
                         w.key_across, k0 == p.first_block(i) ? Into::overwrite : Into::add,
                         w.grad_query.from(i));
  }
  for (int64_t j = 0; j < block; j += kTileRows) {
    const int64_t rows = smaller<int64_t>(kTileRows, block - j);
    // The queries that see one of these keys, and those that they are paired with.
    const int64_t from = larger(begin, k0 + j - p.first),
                  to = smaller(end, p.beyond(k0 + j + rows));
    if (from >= to && into == Into::add) continue;
    const int64_t first = (from - begin) / 2, depth = from < to ? (to - begin + 1) / 2 - first : 0,
                  at = first * kBlock + j,
                  operand = w.layout.across(begin) + first * w.layout.width;
    multiply_rows<kDots>(w.layout, rows, depth, {w.grad_scores + at, 1, kBlock},
                         w.query_across + operand, into, w.grad_key.from(k0 + j));
    multiply_rows<kDots>(w.layout, rows, depth, {w.weights + at, 1, kBlock},
                         w.gradient_across + operand, into, w.grad_value.from(k0 + j));
  }
}

template <bool kDots>
void backward(const AttentionBackward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value),
             output = view(args.output), log_sum_exp = view(args.log_sum_exp),
             grad_output = view(args.grad_output), grad_query = writable(args.grad_query),
             grad_key = writable(args.grad_key), grad_value = writable(args.grad_value);
  const Problem p = problem_of(query, key, args.options);
  // One task owns a key head with all query heads on it: nobody else adds to its gradients.
  for_each(p.batch * p.kv_heads, p.group * p.queries * p.keys * p.dim / 2, [&](int64_t task) {
    const int64_t b = task / p.kv_heads, kv = task % p.kv_heads;
    const Layout layout(p.dim);
    Room room = room_for(2 * (layout.along(p.queries) + layout.across(p.queries)) +
                             3 * layout.along(kBlock) + layout.across(kBlock) + p.queries +
                             kDropoutRoom + kTileRows * kBlock * 5 / 2 + kBlock * kBlock,
                         16);
    Backward w{.p = p,
               .layout = layout,
               .scale = float(args.options.scale),
               .cap = float(args.options.softcap),
               .b = b,
               .query_along = room.pairs(layout.along(p.queries)),
               .query_across = room.pairs(layout.across(p.queries)),
               .gradient_along = room.pairs(layout.along(p.queries)),
               .gradient_across = room.pairs(layout.across(p.queries)),
               .packed_key = room.pairs(layout.along(kBlock)),
               .packed_value = room.pairs(layout.along(kBlock)),
               .key_across = room.pairs(layout.across(kBlock)),
               .grad_key = head_rows<float>(grad_key, b, kv),
               .grad_value = head_rows<float>(grad_value, b, kv),
               .tile_weights = room.numbers(kTileRows * kBlock),
               .tile_grad_scores = room.numbers(kTileRows * kBlock),
               .factors = room.numbers(kDropoutRoom),
               .tile_grad_pairs = room.pairs(kTileRows * kBlock / 2),
               .weights = room.pairs(kBlock * kBlock / 2),
               .grad_scores = room.pairs(kBlock * kBlock / 2)};
    Pair* along = room.pairs(layout.along(kBlock));
    float* deltas = room.numbers(p.queries);
    w.delta = deltas;
    for (int64_t i = 0; i < kDropoutRoom; ++i) w.factors[i] = 1;
    const Rows<float> keys = head_rows<float>(key, b, kv), values = head_rows<float>(value, b, kv);
    // Keys that no query sees lie before and behind.
    const int64_t start = p.first_block(0), reached = smaller(p.keys, p.first + p.queries);
    for (const Rows<float>& gradient : {w.grad_key, w.grad_value}) {
      clear(gradient, 0, start, p.dim);
      clear(gradient, reached, p.keys, p.dim);
    }
    for (int64_t g = 0; g < p.group; ++g) {
      w.h = kv * p.group + g;
      const Rows<float> queries = head_rows<float>(query, b, w.h),
                        gradients = contiguous_head<float>(grad_output, p, b, w.h),
                        outputs = contiguous_head<float>(output, p, b, w.h);
      w.grad_query = head_rows<float>(grad_query, b, w.h);
      w.log_sum_exp = pointer<float>(log_sum_exp) + (b * p.heads + w.h) * p.queries;
      const NextHead<float> next(p, b * p.heads + w.h + 1,
                                 {&query, &output, &grad_output, &grad_query},
                                 {&key, &value, &grad_key, &grad_value});
      w.next = &next;
      for (int64_t i = 0; i < p.queries; ++i) deltas[i] = dot(outputs[i], gradients[i], p.dim);
      round_rows_along(layout, queries, p.queries, w.query_along);
      round_rows_across(layout, queries, p.queries, w.query_across);
      round_rows_along(layout, gradients, p.queries, w.gradient_along);
      round_rows_across(layout, gradients, p.queries, w.gradient_across);
      for (int64_t k0 = start; k0 < reached; k0 += kBlock) {
        const int64_t block = smaller(kBlock, reached - k0);
        pack_rounded(layout, keys.from(k0), block, along, w.packed_key);
        pack_rounded(layout, values.from(k0), block, along, w.packed_value);
        round_rows_across(layout, keys.from(k0), block, w.key_across);
        const int64_t last = smaller(p.queries, p.beyond(k0 + block));
        bool first_share = g == 0;
        for (int64_t begin = larger<int64_t>(0, k0 - p.first) / kBlock * kBlock; begin < last;
             begin += kBlock) {
          backward_chunk<kDots>(w, begin, smaller(p.queries, begin + kBlock), k0, block,
                                first_share ? Into::overwrite : Into::add);
          first_share = false;
        }
      }
    }
  });
}

}  // namespace

void attention_forward_bf16(const AttentionForward& args) {
#if defined(__AVX512F__)
  if (multiplies_pairs()) return forward<true>(args);
#endif
  forward<false>(args);
}

void attention_backward_bf16(const AttentionBackward& args) {
#if defined(__AVX512F__)
  if (multiplies_pairs()) return backward<true>(args);
#endif
  backward<false>(args);
}

}  // namespace reverie::cpu::REVERIE_ISA
