#include "kernels/attention.h"

#include "kernels/cpu/isa/attention_tiles.h"

// The rows of a chunk of groups - of all query heads on one key head - are gathered into one
// matrix, groups with the longest context first. A block of context keys is then seen by a run of
// rows from the first on, and tiles of rows are full however short the groups are. Within a group,
// heads lie within rows, so that the groups' own keys are causal in the gathered order too.
//
// Each row is computed in the same order whatever the number of threads; the gradient of the
// context is summed over the chunks in order, by one thread for each of its heads.

namespace reverie::cpu::REVERIE_ISA {
namespace {

struct Problem {
  int64_t batch, groups, size, heads, kv_heads, dim, context, share, window;
  int64_t per_chunk, chunks;

  int64_t rows() const { return groups * size; }       // of a batch entry
  int64_t group_rows() const { return size * share; }  // gathered ones, of a group
  int64_t chunk_rows() const { return per_chunk * group_rows(); }
};
Problem problem_of(const View& query, const View& key, const View& context, const View& limits,
                   const AttentionOptions& o) {
  Problem p{};
  p.batch = query.size[0];
  p.groups = limits.size[1];
  p.size = query.size[1] / p.groups;
  p.heads = query.size[2];
  p.kv_heads = key.size[2];
  p.dim = query.size[3];
  p.context = context.size[1];
  p.share = p.heads / p.kv_heads;
  const int64_t longest = p.context + p.size;
  p.window = o.window > 0 ? smaller(o.window, longest) : longest;
  // A chunk's queries stay in the second-level cache, and pay for packing the context once more.
  const int64_t wanted_rows = larger<int64_t>(kRunRows, 24576 / p.dim);
  p.per_chunk = larger<int64_t>(1, smaller(p.groups, wanted_rows / p.group_rows()));
  p.chunks = (p.groups + p.per_chunk - 1) / p.per_chunk;
  return p;
}

// order[b * groups + k]: the group of entry b with the k-th longest context (a counting sort;
// equal ones keep their order).
const int32_t* order_groups(const Problem& p, const int32_t* limits) {
  auto* order = static_cast<int32_t*>(
      scratch(Slot::shared, size_t(p.batch * p.groups + p.context + 2) * sizeof(int32_t)));
  int32_t* start = order + p.batch * p.groups;
  for (int64_t b = 0; b < p.batch; ++b) {
    const int32_t* limit = limits + b * p.groups;
    for (int64_t l = 0; l <= p.context + 1; ++l) start[l] = 0;
    // start[l] becomes the number of groups with more than l.
    for (int64_t g = 0; g < p.groups; ++g)
      if (limit[g] > 0) ++start[limit[g] - 1];
    for (int64_t l = p.context; l >= 0; --l) start[l] += start[l + 1];
    for (int64_t g = 0; g < p.groups; ++g) order[b * p.groups + start[limit[g]]++] = int32_t(g);
  }
  return order;
}

// Chunks with long and with short contexts take turns, so that threads get equal shares.
int64_t interleaved(int64_t i, int64_t count) {
  return i % 2 == 0 ? i / 2 : count - 1 - i / 2;
}

// A run of groups in that order, of one key head.
struct Chunk {
  const Problem& p;
  int64_t b, kv;
  const int32_t *order, *limits;  // of the chunk's groups; of the entry's groups
  int64_t groups;

  int64_t rows() const { return groups * p.group_rows(); }
  int64_t limit(int64_t k) const { return limits[order[k]]; }
  int64_t lowest_key() const {  // of the context, that a row sees
    return larger<int64_t>(0, limit(groups - 1) - p.window + 1);
  }
  // body(gathered row, row of the entry, head)
  template <class Body>
  REVERIE_INLINE void each_row(const Body& body) const {
    int64_t row = 0;
    for (int64_t k = 0; k < groups; ++k)
      for (int64_t s = 0; s < p.size; ++s)
        for (int64_t h = 0; h < p.share; ++h) body(row++, order[k] * p.size + s, kv * p.share + h);
  }
};
Chunk chunk_of(const Problem& p, int64_t b, int64_t kv, int64_t number, const int32_t* order,
               const int32_t* limits) {
  const int64_t first = number * p.per_chunk;
  return {p,
          b,
          kv,
          order + b * p.groups + first,
          limits + b * p.groups,
          smaller(p.per_chunk, p.groups - first)};
}

// Which keys a run of gathered rows may see.
struct Sight {
  const int32_t *limit, *place;  // of each gathered row: keys of the context, row within its group
  int64_t window;
  bool own;  // the block is of the group's own keys, not of the context

  Span operator()(int64_t row, int64_t k0, int64_t block) const {
    const int64_t at = place[row] + (own ? 0 : limit[row]),  // position, from the block's origin
        end = own ? at + 1 : limit[row];
    return span_of(at - window + 1, end, k0, block);
  }
};
// What each of a run of rows sees of a block, and how many of its keys each tile of them needs: as
// many as its rows reach, behind a window too, or 0 where none sees anything.
struct RunSight {
  Span spans[kRunRows];
  int64_t most[kRunTiles];
  bool any;
};
RunSight look(const Sight& sight, int64_t row, int64_t rows, int64_t k0, int64_t block) {
  RunSight run;
  run.any = false;
  for (int64_t i = 0; i < rows; i += kTileRows) {
    int64_t& most = run.most[i / kTileRows] = 0;
    bool visible = false;
    for (int64_t r = i; r < smaller(rows, i + kTileRows); ++r) {
      const Span span = run.spans[r] = sight(row + r, k0, block);
      most = larger(most, span.seen);
      visible |= span.hidden < span.seen;
    }
    if (!visible) most = 0;
    run.any |= visible;
  }
  return run;
}
void place_rows(const Chunk& c, int32_t* limit, int32_t* place) {
  c.each_row([&](int64_t row, int64_t entry_row, int64_t) {
    limit[row] = c.limits[entry_row / c.p.size];
    place[row] = int32_t(entry_row % c.p.size);
  });
}
// Of rows [0, count), those that see keys from k0 on: a run from the first.
int64_t reaching(const int32_t* limit, int64_t count, int64_t k0) {
  while (count > 0 && limit[count - 1] <= k0) --count;
  return count;
}

template <class T>
void gather(const Chunk& c, const View& from, Rows<T> to) {
  const T* base = pointer<T>(from) + c.b * from.stride[0];
  const int64_t dim = c.p.dim;
  c.each_row([&](int64_t row, int64_t entry_row, int64_t head) {
    const T* source = base + entry_row * from.stride[1] + head * from.stride[2];
    for (int64_t d = 0; d < dim; ++d) to[row][d] = source[d];
    for (int64_t d = dim; d < to.stride; ++d) to[row][d] = 0;
  });
}

// Everything about one chunk and direction that the loops over blocks need.
template <class T>
struct Forward {
  const Chunk& c;
  T scale, cap;
  Rows<T> query, output;  // output: rows of whole vectors, which tiles add to without a remainder
  T *tops, *totals, *packed_key, *padded_value, *scores;
  const int32_t *limit, *place;
};

// Rows [begin, end) meet the block of keys at k0.
template <class T>
void attend(const Forward<T>& w, bool own, int64_t begin, int64_t end, Rows<T> key, Rows<T> value,
            int64_t k0, int64_t block) {
  const int64_t dim = w.c.p.dim, width = w.output.stride;
  const Sight sight{w.limit, w.place, w.c.p.window, own};
  pack_rows(key.from(k0), block, dim, w.packed_key);
  const Rows<T> values = whole_vectors(value.from(k0), block, dim, w.padded_value);
  for (int64_t i = begin; i < end; i += kRunRows) {
    const int64_t rows = smaller(kRunRows, end - i);
    const RunSight run = look(sight, i, rows, k0, block);
    if (!run.any) continue;
    multiply_packed_run(rows, run.most, w.query.from(i), dim, w.packed_key, w.scale, w.scores);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t most = run.most[r / kTileRows], padded = round_up(most, kTileColumns<T>);
      if (most == 0) continue;
      T *row = w.scores + r * kBlock, *out = w.output[i + r];
      if (w.cap > T(0)) cap_scores(row, padded, w.cap);
      const T correction =
          online_softmax(row, run.spans[r], padded, w.tops[i + r], w.totals[i + r]);
      if (correction == T(1)) continue;
#pragma omp simd
      for (int64_t d = 0; d < width; ++d) out[d] *= correction;
    }
    add_weighted_run(rows, run.most, w.scores, values, width, w.output.from(i));
  }
}

template <class T>
void forward_chunk(const Chunk& c, T scale, T cap, const View& query, const View& key,
                   const View& value, const View& context_key, const View& context_value,
                   const View& output, const View& log_sum_exp) {
  const Problem& p = c.p;
  const int64_t rows = c.rows(), width = round_up(p.dim, kLanes<T>),
                padding = whole_vectors_size<T>(kBlock, p.dim);
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(rows * (p.dim + width) + 4 * rows + kBlock * p.dim + padding +
                                  kRunRows * kBlock + 9 * 16) *
                               sizeof(T)))};
  auto *limit = reinterpret_cast<int32_t*>(arena.take(rows)),
       *place = reinterpret_cast<int32_t*>(arena.take(rows));
  place_rows(c, limit, place);
  Forward<T> w{c,
               scale,
               cap,
               {arena.take(rows * p.dim), p.dim},
               {arena.take(rows * width), width},
               arena.take(rows),
               arena.take(rows),
               arena.take(kBlock * p.dim),
               arena.take(padding),
               arena.take(kRunRows * kBlock),
               limit,
               place};
  gather(c, query, w.query);
  for (int64_t i = 0; i < rows * width; ++i) w.output.data[i] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    w.tops[i] = kLowest<T>;
    w.totals[i] = 0;
  }
  const Rows<T> keys = head_rows<T>(key, c.b, c.kv), values = head_rows<T>(value, c.b, c.kv),
                context_keys = head_rows<T>(context_key, c.b, c.kv),
                context_values = head_rows<T>(context_value, c.b, c.kv);
  for (int64_t k = 0; k < c.groups; ++k) {
    const int64_t first = c.order[k] * p.size, base = k * p.group_rows();
    for (int64_t k0 = 0; k0 < p.size; k0 += kBlock) {
      const int64_t block = smaller(kBlock, p.size - k0),
                    beyond = smaller(p.size, k0 + block - 1 + p.window);
      attend(w, true, base + k0 * p.share, base + beyond * p.share, keys.from(first),
             values.from(first), k0, block);
    }
  }
  for (int64_t k0 = c.lowest_key() / kBlock * kBlock; k0 < c.limit(0); k0 += kBlock)
    attend(w, false, 0, reaching(limit, rows, k0), context_keys, context_values, k0,
           smaller(kBlock, c.limit(0) - k0));

  const int64_t entry_rows = p.rows();
  c.each_row([&](int64_t row, int64_t entry_row, int64_t head) {
    const T inverse = T(1) / w.totals[row];
    const T* from = w.output[row];
    T* to = pointer<T>(output) + ((c.b * entry_rows + entry_row) * p.heads + head) * p.dim;
    for (int64_t d = 0; d < p.dim; ++d) to[d] = from[d] * inverse;
    pointer<T>(log_sum_exp)[(c.b * p.heads + head) * entry_rows + entry_row] =
        w.tops[row] + fmath::log(w.totals[row]);
  });
}

template <class T>
void forward(const GroupedAttentionForward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value),
             context_key = view(args.context_key), context_value = view(args.context_value),
             limits = view(args.limits), output = writable(args.output),
             log_sum_exp = writable(args.log_sum_exp);
  if (query.count == 0) return;
  const Problem p = problem_of(query, key, context_key, limits, args.options);
  const auto* limit = pointer<int32_t>(limits);
  const int32_t* order = order_groups(p, limit);
  for_each(p.batch * p.kv_heads * p.chunks, p.chunk_rows() * p.context * p.dim / 2,
           [&](int64_t task) {
             const int64_t head = task / p.chunks;
             forward_chunk(chunk_of(p, head / p.kv_heads, head % p.kv_heads,
                                    interleaved(task % p.chunks, p.chunks), order, limit),
                           T(args.options.scale), T(args.options.softcap), query, key, value,
                           context_key, context_value, output, log_sum_exp);
           });
}

template <class T>
struct Backward {
  const Chunk& c;
  T scale, cap;
  Rows<T> query, grad_output, grad_query;
  T *log_sum_exp, *delta, *packed_key, *packed_value, *padded_key, *ones, *weights, *grad_scores;
  const int32_t *limit, *place;
};

// A block of keys with their gradients (no data: not wanted).
template <class T>
struct Block {
  bool own;
  int64_t base;  // own keys: the first gathered row of their group
  int64_t k0, count;
  Rows<T> key, grad_key, grad_value;  // key: whole vectors, from k0 on; gradients from 0 on
};

// weights and grad_scores of a run of rows, and their shares of the queries' gradient. False if no
// row sees a key of the block.
template <class T>
bool recompute(const Backward<T>& w, const Block<T>& block, int64_t begin, int64_t rows) {
  const int64_t dim = w.c.p.dim;
  const Sight sight{w.limit, w.place, w.c.p.window, block.own};
  const RunSight run = look(sight, begin, rows, block.k0, block.count);
  if (!run.any) return false;
  multiply_packed_run(rows, run.most, w.query.from(begin), dim, w.packed_key, w.scale, w.weights);
  multiply_packed_run(rows, run.most, w.grad_output.from(begin), dim, w.packed_value, T(1),
                      w.grad_scores);
  for (int64_t r = 0; r < rows; ++r) {
    T *weights = w.weights + r * kBlock, *grad_scores = w.grad_scores + r * kBlock;
    // Tiles of keys reach beyond what a row sees by less than a tile: zeros there.
    const int64_t most = run.most[r / kTileRows],
                  cleared = smaller(kBlock, round_up(most + kTileRows, kLanes<T>));
    if (most == 0) {
      for (int64_t j = 0; j < kBlock; ++j) weights[j] = grad_scores[j] = 0;
      continue;
    }
    weigh_row(weights, grad_scores, run.spans[r], int(cleared),
              ScoreRow<T>{w.log_sum_exp[begin + r], w.delta[begin + r], w.scale, w.cap, w.ones});
  }
  if (w.grad_query.data != nullptr)
    add_weighted_run(rows, run.most, w.grad_scores, block.key, w.grad_query.stride,
                     w.grad_query.from(begin));
  return true;
}

// Shares of rows [begin, end) in the gradients of a block's keys and values.
template <class T>
void share_gradients(const Backward<T>& w, const Block<T>& block, int64_t begin, int64_t end,
                     Into into) {
  const Problem& p = w.c.p;
  for (int64_t j = 0; j < block.count; j += kTileRows) {
    const int64_t keys = smaller<int64_t>(kTileRows, block.count - j), key = block.k0 + j;
    // The rows that see one of these keys lie in between.
    int64_t from = begin, to = end;
    if (block.own) {
      from = larger(begin, block.base + key * p.share);
      to = smaller(end, block.base + (key + keys - 1 + p.window) * p.share);
    } else {
      to = begin + reaching(w.limit + begin, end - begin, key);
    }
    if (from >= to && into == Into::add) continue;
    const int64_t depth = larger<int64_t>(0, to - from), at = (from - begin) * kBlock + j;
    if (block.grad_key.data != nullptr)
      multiply_rows(keys, depth, Left<T>{w.grad_scores + at, 1, kBlock}, w.query.from(from), p.dim,
                    into, block.grad_key.from(key));
    if (block.grad_value.data != nullptr)
      multiply_rows(keys, depth, Left<T>{w.weights + at, 1, kBlock}, w.grad_output.from(from),
                    p.dim, into, block.grad_value.from(key));
  }
}

// Rows [begin, end) meet the block; `into`: how the first of them meet the block's gradients.
template <class T>
void backward_block(const Backward<T>& w, Block<T> block, Rows<T> value, int64_t begin, int64_t end,
                    Into into) {
  const int64_t dim = w.c.p.dim;
  pack_rows(block.key, block.count, dim, w.packed_key);
  pack_rows(value, block.count, dim, w.packed_value);
  block.key = whole_vectors(block.key, block.count, dim, w.padded_key);
  const bool shares = block.grad_key.data != nullptr || block.grad_value.data != nullptr;
  for (int64_t i = begin; i < end; i += kRunRows) {
    const int64_t last = smaller(end, i + kRunRows);
    const bool any = recompute(w, block, i, last - i);
    if (shares && any) share_gradients(w, block, i, last, into);
    into = Into::add;
  }
}

template <class T>
struct BackwardViews {
  View query, key, value, context_key, context_value, output, log_sum_exp, grad_output, grad_query,
      grad_key, grad_value, grad_context_key, grad_context_value;
};
// No data where the tensor is not wanted.
template <class T>
Rows<T> wanted_rows(const View& v, int64_t b, int64_t head) {
  return v.data == nullptr ? Rows<T>{nullptr, 0} : head_rows<T>(v, b, head);
}

template <class T>
void backward_chunk(const Chunk& c, T scale, T cap, const BackwardViews<T>& v) {
  const Problem& p = c.p;
  // Gathered rows are right operands too: whole vectors.
  const int64_t rows = c.rows(), width = round_up(p.dim, kLanes<T>),
                padding = whole_vectors_size<T>(kBlock, p.dim);
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(3 * rows * width + 4 * rows + 2 * kBlock * p.dim + padding +
                                  kBlock + 2 * kRunRows * kBlock + 14 * 16) *
                               sizeof(T)))};
  auto *limit = reinterpret_cast<int32_t*>(arena.take(rows)),
       *place = reinterpret_cast<int32_t*>(arena.take(rows));
  place_rows(c, limit, place);
  Backward<T> w{c,
                scale,
                cap,
                {arena.take(rows * width), width},
                {arena.take(rows * width), width},
                {arena.take(rows * width), width},
                arena.take(rows),
                arena.take(rows),
                arena.take(kBlock * p.dim),
                arena.take(kBlock * p.dim),
                arena.take(padding),
                arena.take(kBlock),
                arena.take(kRunRows * kBlock),
                arena.take(kRunRows * kBlock),
                limit,
                place};
  gather(c, v.query, w.query);
  gather(c, v.grad_output, w.grad_output);
  for (int64_t i = 0; i < rows * width; ++i) w.grad_query.data[i] = 0;
  for (int64_t i = 0; i < kBlock; ++i) w.ones[i] = 1;
  if (v.grad_query.data == nullptr) w.grad_query.data = nullptr;
  const int64_t entry_rows = p.rows();
  c.each_row([&](int64_t row, int64_t entry_row, int64_t head) {
    const T* out = pointer<T>(v.output) + ((c.b * entry_rows + entry_row) * p.heads + head) * p.dim;
    w.delta[row] = dot<T>(out, w.grad_output[row], p.dim);
    w.log_sum_exp[row] = pointer<T>(v.log_sum_exp)[(c.b * p.heads + head) * entry_rows + entry_row];
  });

  const Rows<T> keys = head_rows<T>(v.key, c.b, c.kv), values = head_rows<T>(v.value, c.b, c.kv),
                context_keys = head_rows<T>(v.context_key, c.b, c.kv),
                context_values = head_rows<T>(v.context_value, c.b, c.kv),
                grad_keys = wanted_rows<T>(v.grad_key, c.b, c.kv),
                grad_values = wanted_rows<T>(v.grad_value, c.b, c.kv),
                grad_context_keys = wanted_rows<T>(v.grad_context_key, c.b, c.kv),
                grad_context_values = wanted_rows<T>(v.grad_context_value, c.b, c.kv);
  for (int64_t k = 0; k < c.groups; ++k) {
    const int64_t first = c.order[k] * p.size, base = k * p.group_rows();
    for (int64_t k0 = 0; k0 < p.size; k0 += kBlock) {
      const int64_t count = smaller(kBlock, p.size - k0),
                    beyond = smaller(p.size, k0 + count - 1 + p.window);
      backward_block(w,
                     Block<T>{true, base, k0, count, keys.from(first + k0), grad_keys.from(first),
                              grad_values.from(first)},
                     values.from(first + k0), base + k0 * p.share, base + beyond * p.share,
                     Into::overwrite);
    }
  }
  for (int64_t k0 = c.lowest_key() / kBlock * kBlock; k0 < c.limit(0); k0 += kBlock)
    backward_block(w,
                   Block<T>{false, 0, k0, smaller(kBlock, c.limit(0) - k0), context_keys.from(k0),
                            grad_context_keys, grad_context_values},
                   context_values.from(k0), 0, reaching(limit, rows, k0), Into::add);

  if (v.grad_query.data == nullptr) return;
  c.each_row([&](int64_t row, int64_t entry_row, int64_t head) {
    const T* from = w.grad_query[row];
    T* to = head_rows<T>(v.grad_query, c.b, head)[entry_row];
    for (int64_t d = 0; d < p.dim; ++d) to[d] = from[d];
  });
}

template <class T>
void backward(const GroupedAttentionBackward& args) {
  const BackwardViews<T> v{view(args.query),
                           view(args.key),
                           view(args.value),
                           view(args.context_key),
                           view(args.context_value),
                           view(args.output),
                           view(args.log_sum_exp),
                           view(args.grad_output),
                           writable(args.grad_query),
                           writable(args.grad_key),
                           writable(args.grad_value),
                           writable(args.grad_context_key),
                           writable(args.grad_context_value)};
  const View limits = view(args.limits);
  const Problem p = problem_of(v.query, v.key, v.context_key, limits, args.options);
  const T scale = T(args.options.scale), cap = T(args.options.softcap);
  const auto* limit = pointer<int32_t>(limits);
  const int32_t* order = order_groups(p, limit);
  const int64_t heads = p.batch * p.kv_heads, work = p.chunk_rows() * p.context * p.dim;
  const auto chunk = [&](int64_t head, int64_t number) {
    backward_chunk(chunk_of(p, head / p.kv_heads, head % p.kv_heads, number, order, limit), scale,
                   cap, v);
  };
  if (v.grad_context_key.data == nullptr && v.grad_context_value.data == nullptr) {
    for_each(heads * p.chunks, work,
             [&](int64_t task) { chunk(task / p.chunks, interleaved(task % p.chunks, p.chunks)); });
    return;
  }
  for_each(heads, p.chunks * work, [&](int64_t head) {
    for (const View* gradient : {&v.grad_context_key, &v.grad_context_value}) {
      const Rows<T> rows = wanted_rows<T>(*gradient, head / p.kv_heads, head % p.kv_heads);
      if (rows.data == nullptr) continue;
      for (int64_t t = 0; t < p.context; ++t)
        for (int64_t d = 0; d < p.dim; ++d) rows[t][d] = 0;
    }
    for (int64_t number = 0; number < p.chunks; ++number) chunk(head, number);
  });
}

void run_grouped_attention_forward(const GroupedAttentionForward& a) {
  for_float(view(a.query).dtype, [&](auto zero) { forward<decltype(zero)>(a); });
}
void run_grouped_attention_backward(const GroupedAttentionBackward& a) {
  for_float(view(a.query).dtype, [&](auto zero) { backward<decltype(zero)>(a); });
}

REVERIE_CPU_KERNEL(grouped_attention_forward, run_grouped_attention_forward);
REVERIE_CPU_KERNEL(grouped_attention_backward, run_grouped_attention_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
