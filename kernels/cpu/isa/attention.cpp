#include "kernels/attention.h"

#include "kernels/cpu/isa/attention_bf16.h"
#include "kernels/cpu/isa/attention_problem.h"

// Every row is computed in the same order whatever the number of threads.
//
// A key that a query may not see takes part in a tile with weight 0, so its key and value reach
// that query only if they are not finite.

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Queries [begin, end) of one head.
template <class T>
void forward_head(const Problem& p, T scale, T cap, int64_t b, int64_t h, int64_t begin,
                  int64_t end, Rows<T> query, Rows<T> key, Rows<T> value, Rows<T> output,
                  T* log_sum_exp, const NextHead<T>& next) {
  const int64_t count = end - begin;
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(kBlock * p.dim + whole_vectors_size<T>(kBlock, p.dim) +
                                  kTileRows * kBlock + 2 * count + kDropoutRoom + 96) *
                               sizeof(T)))};
  T *packed_key = arena.take(kBlock * p.dim),
    *padded_value = arena.take(whole_vectors_size<T>(kBlock, p.dim)),
    *scores = arena.take(kTileRows * kBlock);
  const SoftmaxOfRows<T> softmax{.p = p,
                                 .cap = cap,
                                 .b = b,
                                 .h = h,
                                 .begin = begin,
                                 .output = output,
                                 .tops = arena.take(count),
                                 .totals = arena.take(count),
                                 .factors = arena.take(kDropoutRoom)};
  softmax.start(count);
  for (int64_t k0 = p.first_block(begin); k0 < p.first + end; k0 += kBlock) {
    const int64_t block = smaller(kBlock, p.keys - k0);
    pack_rows(key.from(k0), block, p.dim, packed_key);
    const Rows<T> values = whole_vectors(value.from(k0), block, p.dim, padded_value);
    const int64_t first_row =
        larger(begin, k0 - p.first);  // earlier ones see nothing of this block
    const int64_t last_row = smaller(end, p.beyond(k0 + block));
    for (int64_t i = begin + (first_row - begin) / kTileRows * kTileRows; i < last_row;
         i += kTileRows) {
      const bool fresh = k0 == p.first_block(i);
      const int64_t rows = smaller<int64_t>(kTileRows, end - i);
      const int64_t most = smaller(block, p.first + i + rows - k0),
                    padded = round_up(most, kLanes<T>);
      multiply_packed(rows, query.from(i), p.dim, packed_key, most, scale, scores);
      for (int64_t r = 0; r < rows; ++r) {
        softmax.weigh(scores + r * kBlock, i + r, k0, block, most, padded, fresh);
        if (p.on_diagonal(i + r, k0)) next.prefetch(i + r);
      }
      multiply_rows(rows, most, Left<T>{scores, kBlock, 1}, values, p.dim,
                    fresh ? Into::overwrite : Into::add, output.from(i));
    }
  }
  softmax.finish(count, log_sum_exp);
}

// One query, as in decoding: keys are read once, as they lie.
template <class T>
void forward_row(const Problem& p, T scale, T cap, int64_t b, int64_t h, int64_t i, const T* query,
                 Rows<T> key, Rows<T> value, T* output, T* log_sum_exp) {
  const int64_t lowest = p.lowest(i), count = p.first + i + 1 - lowest;
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(round_up(count, kBlock) + kDropoutRoom + 64) * sizeof(T)))};
  T *scores = arena.take(round_up(count, kBlock)), *room = arena.take(kDropoutRoom);
  T top = kLowest<T>, total = 0;
  for (int64_t j = 0; j < count; ++j) scores[j] = scale * dot(query, key[lowest + j], p.dim);
  if (cap > T(0)) cap_scores(scores, count, cap);
  for (int64_t d = 0; d < p.dim; ++d) output[d] = 0;
  online_softmax(scores, {0, count}, round_up(count, kLanes<T>), top, total);
  const T inverse = T(1) / total;
  for (int64_t k0 = 0; k0 < count; k0 += kBlock) {
    const int64_t block = smaller(kBlock, count - k0);
    if (p.drops) {
      const T* factor =
          draw_dropout(p.dropout, dropout_number(p, b, h, i) + uint64_t(lowest + k0), block, room);
      for (int64_t j = 0; j < block; ++j) scores[k0 + j] *= factor[j];
    }
    for (int64_t j = k0; j < k0 + block; ++j) {
      const T weight = scores[j] * inverse;
      const T* v = value[lowest + j];
#pragma omp simd
      for (int64_t d = 0; d < p.dim; ++d) output[d] += weight * v[d];
    }
  }
  *log_sum_exp = top + fmath::log(total);
}

template <class T>
void forward(const AttentionForward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value),
             output = writable(args.output), log_sum_exp = writable(args.log_sum_exp);
  const Problem p = problem_of(query, key, args.options);
  if (query.count == 0) return;
  const T scale = T(args.options.scale), cap = T(args.options.softcap);
  const auto [cut, cuts] = forward_cuts(p);
  for_each(p.batch * p.heads * cuts, smaller(cut, p.queries) * p.keys * p.dim / 4,
           [&, cut = cut, cuts = cuts](int64_t task) {
             const int64_t head = task / cuts, b = head / p.heads, h = head % p.heads;
             const int64_t begin = task % cuts * cut, end = smaller(p.queries, begin + cut);
             const Rows<T> q = head_rows<T>(query, b, h), k = head_rows<T>(key, b, h / p.group),
                           v = head_rows<T>(value, b, h / p.group);
             const Rows<T> out = contiguous_head<T>(output, p, b, h);
             T* sums = pointer<T>(log_sum_exp) + head * p.queries;
             if (p.queries < 3) {
               for (int64_t i = begin; i < end; ++i)
                 forward_row(p, scale, cap, b, h, i, q[i], k, v, out[i], sums + i);
             } else {
               forward_head(p, scale, cap, b, h, begin, end, q, k, v, out, sums,
                            NextHead<T>(p, cuts == 1 ? head + 1 : kNoHead, {&query, &output},
                                        {&key, &value}));
             }
           });
}

// Everything that one key and value head and the query heads on it need.
template <class T>
struct Backward {
  const Problem& p;
  T scale, cap;
  int64_t b, h = 0;  // h: the head in work
  Rows<T> query = {}, key, value, output = {}, grad_output = {}, grad_query = {}, grad_key,
          grad_value;
  const T *log_sum_exp = nullptr, *delta = nullptr;
  T *packed_key, *packed_value, *room, *weights, *grad_scores;
  const NextHead<T>* next = nullptr;
};

// weights and grad_scores of queries [i, i + rows) against the block of keys at k0, into rows of
// kBlock from `row` on.
template <class T>
void recompute(const Backward<T>& w, int64_t i, int64_t rows, int64_t k0, int64_t block,
               int64_t row) {
  const int64_t most = smaller(block, w.p.first + i + rows - k0);
  T *weights = w.weights + row * kBlock, *grad_scores = w.grad_scores + row * kBlock;
  multiply_packed(rows, w.query.from(i), w.p.dim, w.packed_key, most, w.scale, weights);
  multiply_packed(rows, w.grad_output.from(i), w.p.dim, w.packed_value, most, T(1), grad_scores);
  // Tiles of keys reach beyond the diagonal by less than a tile: zeros there.
  const int cleared = int(smaller(kBlock, round_up(most + kTileRows, kLanes<T>)));
  for (int64_t r = 0; r < rows; ++r) {
    const T* factor = w.room;  // ones, unless drawn
    if (w.p.drops)
      factor = draw_dropout(w.p.dropout, dropout_number(w.p, w.b, w.h, i + r) + uint64_t(k0),
                            kBlock, w.room);
    weigh_row(weights + r * kBlock, grad_scores + r * kBlock, w.p.span(i + r, k0, block), cleared,
              ScoreRow<T>{w.log_sum_exp[i + r], w.delta[i + r], w.scale, w.cap, factor});
    if (w.p.on_diagonal(i + r, k0)) w.next->prefetch(i + r);
  }
}

// Adds one chunk of queries' share to the gradients of one block of keys and values, and the
// block's to the queries'.
template <class T>
void backward_chunk(const Backward<T>& w, int64_t begin, int64_t end, int64_t k0, int64_t block,
                    bool first_share, Rows<T> keys, Rows<T> queries, Rows<T> grad_outputs) {
  const Problem& p = w.p;
  for (int64_t i = begin; i < end; i += kTileRows) {
    const int64_t rows = smaller<int64_t>(kTileRows, end - i),
                  most = smaller(block, p.first + i + rows - k0);
    if (most <= 0) continue;
    if (i >= p.beyond(k0 + block)) break;
    recompute(w, i, rows, k0, block, i - begin);
    multiply_rows(rows, most, Left<T>{w.grad_scores + (i - begin) * kBlock, kBlock, 1}, keys, p.dim,
                  k0 == p.first_block(i) ? Into::overwrite : Into::add, w.grad_query.from(i));
  }
  const Into into = first_share ? Into::overwrite : Into::add;
  for (int64_t j = 0; j < block; j += kTileRows) {
    const int64_t rows = smaller<int64_t>(kTileRows, block - j);
    // The queries that see one of these keys.
    const int64_t from = larger(begin, k0 + j - p.first),
                  to = smaller(end, p.beyond(k0 + j + rows));
    if (from >= to && into == Into::add) continue;
    const int64_t depth = larger<int64_t>(0, to - from), at = (from - begin) * kBlock + j;
    multiply_rows(rows, depth, Left<T>{w.grad_scores + at, 1, kBlock}, queries.from(from - begin),
                  p.dim, into, w.grad_key.from(k0 + j));
    multiply_rows(rows, depth, Left<T>{w.weights + at, 1, kBlock}, grad_outputs.from(from - begin),
                  p.dim, into, w.grad_value.from(k0 + j));
  }
}

template <class T>
void backward(const AttentionBackward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value),
             output = view(args.output), log_sum_exp = view(args.log_sum_exp),
             grad_output = view(args.grad_output), grad_query = writable(args.grad_query),
             grad_key = writable(args.grad_key), grad_value = writable(args.grad_value);
  const Problem p = problem_of(query, key, args.options);
  const T scale = T(args.options.scale), cap = T(args.options.softcap);
  // One task owns a key head with all query heads on it: nobody else adds to its gradients.
  for_each(p.batch * p.kv_heads, p.group * p.queries * p.keys * p.dim, [&](int64_t task) {
    const int64_t b = task / p.kv_heads, kv = task % p.kv_heads,
                  padding = whole_vectors_size<T>(kBlock, p.dim);
    Arena<T> arena{static_cast<T*>(
        scratch(Slot::local, size_t(2 * kBlock * p.dim + 3 * padding + 2 * kBlock * kBlock +
                                    kDropoutRoom + p.group * p.queries + 128) *
                                 sizeof(T)))};
    Backward<T> w{.p = p,
                  .scale = scale,
                  .cap = cap,
                  .b = b,
                  .key = head_rows<T>(key, b, kv),
                  .value = head_rows<T>(value, b, kv),
                  .grad_key = head_rows<T>(grad_key, b, kv),
                  .grad_value = head_rows<T>(grad_value, b, kv),
                  .packed_key = arena.take(kBlock * p.dim),
                  .packed_value = arena.take(kBlock * p.dim),
                  .room = arena.take(kDropoutRoom),
                  .weights = arena.take(kBlock * kBlock),
                  .grad_scores = arena.take(kBlock * kBlock)};
    T *key_room = arena.take(padding), *query_room = arena.take(padding),
      *gradient_room = arena.take(padding), *deltas = arena.take(p.group * p.queries);
    for (int64_t i = 0; i < kDropoutRoom; ++i) w.room[i] = 1;
    for (int64_t g = 0; g < p.group; ++g) {
      const Rows<T> out = contiguous_head<T>(output, p, b, kv * p.group + g),
                    gradient = contiguous_head<T>(grad_output, p, b, kv * p.group + g);
      for (int64_t i = 0; i < p.queries; ++i)
        deltas[g * p.queries + i] = dot(out[i], gradient[i], p.dim);
    }
    // Keys that no query sees lie before and behind.
    const int64_t start = p.first_block(0), reached = smaller(p.keys, p.first + p.queries);
    for (const Rows<T>& gradient : {w.grad_key, w.grad_value}) {
      clear(gradient, 0, start, p.dim);
      clear(gradient, reached, p.keys, p.dim);
    }
    for (int64_t k0 = start; k0 < reached; k0 += kBlock) {
      const int64_t block = smaller(kBlock, reached - k0);
      pack_rows(w.key.from(k0), block, p.dim, w.packed_key);
      pack_rows(w.value.from(k0), block, p.dim, w.packed_value);
      const Rows<T> keys = whole_vectors(w.key.from(k0), block, p.dim, key_room);
      bool first_share = true;
      for (int64_t g = 0; g < p.group; ++g) {
        w.h = kv * p.group + g;
        w.query = head_rows<T>(query, b, w.h);
        w.grad_query = head_rows<T>(grad_query, b, w.h);
        w.output = contiguous_head<T>(output, p, b, w.h);
        w.grad_output = contiguous_head<T>(grad_output, p, b, w.h);
        w.log_sum_exp = pointer<T>(log_sum_exp) + (b * p.heads + w.h) * p.queries;
        w.delta = deltas + g * p.queries;
        const NextHead<T> next(p, b * p.heads + w.h + 1,
                               {&query, &output, &grad_output, &grad_query},
                               {&key, &value, &grad_key, &grad_value});
        w.next = &next;
        const int64_t last = smaller(p.queries, p.beyond(k0 + block));
        for (int64_t begin = larger<int64_t>(0, k0 - p.first) / kBlock * kBlock; begin < last;
             begin += kBlock) {
          const int64_t end = smaller(p.queries, begin + kBlock);
          backward_chunk(
              w, begin, end, k0, block, first_share, keys,
              whole_vectors(w.query.from(begin), end - begin, p.dim, query_room),
              whole_vectors(w.grad_output.from(begin), end - begin, p.dim, gradient_room));
          first_share = false;
        }
      }
    }
  });
}

void run_attention_forward(const AttentionForward& a) {
  if (a.options.bf16) return attention_forward_bf16(a);
  for_float(view(a.query).dtype, [&](auto zero) { forward<decltype(zero)>(a); });
}
void run_attention_backward(const AttentionBackward& a) {
  if (a.options.bf16) return attention_backward_bf16(a);
  for_float(view(a.query).dtype, [&](auto zero) { backward<decltype(zero)>(a); });
}

REVERIE_CPU_KERNEL(attention_forward, run_attention_forward);
REVERIE_CPU_KERNEL(attention_backward, run_attention_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
