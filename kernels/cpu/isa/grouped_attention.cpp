#include "kernels/attention.h"

#include "kernels/cpu/isa/grouped_rows.h"

// Rows lie side by side in the lanes of vectors: a tile's queries and outputs are [D, lanes], its
// scores [keys, lanes]. So lanes are full however short groups and heads are, nothing is summed
// across lanes, and keys and values are read as they lie, one number at a time. Scores are in base
// 2: the scale of the queries carries log2(e).
//
// Each row is computed in the same order whatever the number of threads; the gradient of the
// context is summed over the chunks in order, by one thread for each of its heads.

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Keys meet a tile in blocks whose scores stay in the first-level cache; whole tiles of products.
constexpr int64_t kKeys = 48;

template <class T>
constexpr T kLog2E = T(1.44269504088896340736);
template <class T>
constexpr T kLn2 = T(0.69314718055994530942);

// Keys of a list, one after the other: [count, D].
template <class T>
struct KeyList {
  T *key, *value;
};

template <class T>
KeyList<T> copied_keys(Arena<T>& arena, int64_t count, int64_t dim) {
  return {arena.take(count * dim), arena.take(count * dim)};
}
template <class T>
void copy_row(const T* from, int64_t dim, T* to) {
#pragma omp simd
  for (int64_t d = 0; d < dim; ++d) to[d] = from[d];
}

template <class T>
void fill(T* to, int64_t count, T value) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

// The context's keys that a chunk's rows see, from `first` on, and the chunk's own.
template <class T>
struct ChunkKeys {
  int64_t first, count;
  KeyList<T> context, own;
};
template <class T>
int64_t chunk_keys_size(const Chunk& c) {
  return 2 * (c.p.context + c.keys()) * c.p.dim + 4 * 16;
}
template <class T>
ChunkKeys<T> copy_keys(const Chunk& c, Arena<T>& arena, const View& key, const View& value,
                       const View& context_key, const View& context_value) {
  const int64_t dim = c.p.dim, first = c.lowest_key(),
                count = larger<int64_t>(0, c.limit(0) - first);
  const ChunkKeys<T> keys{first, count, copied_keys(arena, count, dim),
                          copied_keys(arena, c.keys(), dim)};
  const Rows<T> own_keys = head_rows<T>(key, c.b, c.kv),
                own_values = head_rows<T>(value, c.b, c.kv),
                context_keys = head_rows<T>(context_key, c.b, c.kv),
                context_values = head_rows<T>(context_value, c.b, c.kv);
  for (int64_t i = 0; i < count; ++i) {
    copy_row(context_keys[first + i], dim, keys.context.key + i * dim);
    copy_row(context_values[first + i], dim, keys.context.value + i * dim);
  }
  c.each_key([&](int64_t i, int64_t row) {
    copy_row(own_keys[row], dim, keys.own.key + i * dim);
    copy_row(own_values[row], dim, keys.own.value + i * dim);
  });
  return keys;
}

// row(i): row i of a tile in a tensor [B, G * S, H, D].
template <class T>
auto rows_of(const Chunk& c, const RowTile<T>& tile, const View& v) {
  return [base = pointer<T>(v) + c.b * v.stride[0], by_row = v.stride[1], by_head = v.stride[2],
          &tile](int64_t i) {
    return base + tile.row[i].entry_row * by_row + tile.row[i].head * by_head;
  };
}
template <class T>
void gather(const Chunk& c, const RowTile<T>& tile, const View& from, T factor, T* to) {
  rows_into_lanes(rows_of(c, tile, from), c.p.dim, factor, to);
}
template <class T>
void scatter(const Chunk& c, const RowTile<T>& tile, const T* from, const View& to) {
  lanes_into_rows(from, c.p.dim, tile.count, rows_of(c, tile, to));
}

// body(first key, keys) over the blocks of keys that some rows see some of.
template <class T, class Body>
void over_blocks(const Sight<T>& sight, const Body& body) {
  for (int64_t key = sight.low; key < sight.high; key += kKeys)
    body(key, smaller(kKeys, sight.high - key));
}

// to [keys, lanes] = rows of a list times the tile's.
template <class T>
void multiply_keys(const T* rows, int64_t keys, int64_t dim, const T* tile, int64_t lanes, T* to) {
  for (int64_t j = 0; j < keys; j += kTileRows)
    product(smaller<int64_t>(kTileRows, keys - j), dim, Left<T>{rows + j * dim, dim, 1}, tile,
            kTileLanes<T>, T(1), Into::overwrite, to + j * kTileLanes<T>, kTileLanes<T>, lanes);
}
// to [D, lanes] += rows of a list, transposed, times weights [keys, lanes].
template <class T>
void add_weighted(const T* rows, int64_t keys, int64_t dim, const T* weights, int64_t lanes,
                  T* to) {
  for (int64_t d = 0; d < dim; d += kTileRows)
    product(smaller<int64_t>(kTileRows, dim - d), keys, Left<T>{rows + d, 1, dim}, weights,
            kTileLanes<T>, T(1), Into::add, to + d * kTileLanes<T>, kTileLanes<T>, lanes);
}

// Soft-capped scores [keys, lanes], in base 2, from scores in base e.
template <class T>
void cap_base2(T* scores, int64_t keys, int64_t lanes, T cap) {
  const T inverse = T(1) / cap, limit = cap * kLog2E<T>;
  for (int64_t j = 0; j < keys; ++j, scores += kTileLanes<T>)
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i) scores[i] = limit * fmath::tanh(scores[i] * inverse);
}

// One more block of scores for the online softmax of a tile: they become 2^(score - top), 0 where a
// row does not see the key. `output` is multiplied by what the new tops ask for.
template <bool kHides, int kVectors, class T>
void online_softmax(T* scores, int64_t first, int64_t keys, const Sight<T>& sight, T* tops,
                    T* totals, T* output, int64_t dim) {
  constexpr int64_t kWidth = kLanes<T>;
  Vector<T> top[kVectors], sum[kVectors], correction[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    top[v] = load(tops + v * kWidth);
    sum[v] = Vector<T>{};
  }
  for (int64_t j = 0; j < keys; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> score = load(scores + j * kTileLanes<T> + v * kWidth);
      if constexpr (kHides)
        score = choose_lanes<T>(sight.visible(v * kWidth, first + j), score, splat(kLowest<T>));
      top[v] = choose_lanes<T>(score > top[v], score, top[v]);
    }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v)
    correction[v] = exp2_falling_lanes<T>(load(tops + v * kWidth) - top[v]);
  for (int64_t j = 0; j < keys; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* at = scores + j * kTileLanes<T> + v * kWidth;
      Vector<T> weight = exp2_falling_lanes<T>(load(at) - top[v]);
      if constexpr (kHides)
        weight = choose_lanes<T>(sight.visible(v * kWidth, first + j), weight, Vector<T>{});
      sum[v] += weight;
      store(at, weight);
    }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    store(tops + v * kWidth, top[v]);
    store(totals + v * kWidth, load(totals + v * kWidth) * correction[v] + sum[v]);
  }
  for (int64_t d = 0; d < dim; ++d)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* at = output + d * kTileLanes<T> + v * kWidth;
      store(at, load(at) * correction[v]);
    }
}

template <class T>
struct ForwardTile {
  int64_t dim, lanes;
  T cap;
  T *query, *output, *tops, *totals, *scores;

  // The vector of its lanes from `first` on.
  ForwardTile vector(int64_t first) const {
    return {dim,          kLanes<T>,      cap,   query + first, output + first,
            tops + first, totals + first, scores};
  }
};

// `keys` begin with the list's key `origin`.
template <class T>
void attend(const ForwardTile<T>& w, const Sight<T>& sight, KeyList<T> keys, int64_t origin) {
  over_blocks(sight, [&](int64_t first, int64_t count) {
    const int64_t at = (first - origin) * w.dim;
    multiply_keys(keys.key + at, count, w.dim, w.query, w.lanes, w.scores);
    if (w.cap > T(0)) cap_base2(w.scores, count, w.lanes, w.cap);
    const auto softmax = [&](auto hides) {
      constexpr bool kHides = hides.value;
      if (w.lanes > kLanes<T>)
        online_softmax<kHides, 2>(w.scores, first, count, sight, w.tops, w.totals, w.output, w.dim);
      else
        online_softmax<kHides, 1>(w.scores, first, count, sight, w.tops, w.totals, w.output, w.dim);
    };
    if (sight.hides_some(first, count))
      softmax(std::true_type{});
    else
      softmax(std::false_type{});
    add_weighted(keys.value + at, count, w.dim, w.scores, w.lanes, w.output);
  });
}

// Scores are multiplied by `scale`, and by log2(e) unless a soft-cap comes first.
template <class T>
T query_factor(T scale, T cap) {
  return cap > T(0) ? scale : scale * kLog2E<T>;
}

struct ForwardViews {
  View query, key, value, context_key, context_value, output, log_sum_exp;
};

template <class T>
void forward_chunk(const Chunk& c, T scale, T cap, const ForwardViews& v) {
  const GroupedProblem& p = c.p;
  constexpr int64_t kWide = kTileLanes<T>;
  Arena<T> arena{static_cast<T*>(scratch(
      Slot::local, size_t(chunk_keys_size<T>(c) + (2 * p.dim + 2 + kKeys) * kWide) * sizeof(T)))};
  const ChunkKeys<T> keys = copy_keys<T>(c, arena, v.key, v.value, v.context_key, v.context_value);
  ForwardTile<T> w{p.dim,
                   0,
                   cap,
                   arena.take(p.dim * kWide),
                   arena.take(p.dim * kWide),
                   arena.take(kWide),
                   arena.take(kWide),
                   arena.take(kKeys * kWide)};
  for (int64_t first = 0; first < c.rows(); first += kWide) {
    const RowTile<T> tile = tile_at<T>(c, first);
    w.lanes = tile.lanes();
    gather(c, tile, v.query, query_factor(scale, cap), w.query);
    fill(w.output, p.dim * kWide, T(0));
    fill(w.tops, kWide, kLowest<T>);
    fill(w.totals, kWide, T(0));
    // Vectors see few of each other's own keys, and nearly the same of the context.
    for (int64_t i = 0; i < w.lanes; i += kLanes<T>)
      attend(w.vector(i), tile.own.of(i, kLanes<T>), keys.own, 0);
    attend(w, tile.context.of(0, w.lanes), keys.context, keys.first);
    for (int64_t i = 0; i < tile.count; ++i)
      pointer<T>(v.log_sum_exp)[c.statistic(tile.row[i])] =
          w.tops[i] * kLn2<T> + fmath::log(w.totals[i]);
    for (int64_t i = 0; i < kWide; i += kLanes<T>) {
      const Vector<T> inverse = T(1) / load(w.totals + i);
      for (int64_t d = 0; d < p.dim; ++d) {
        T* at = w.output + d * kWide + i;
        store(at, load(at) * inverse);
      }
    }
    scatter(c, tile, w.output, v.output);
  }
}

template <class T>
void forward(const GroupedAttentionForward& args) {
  const ForwardViews v{view(args.query),          view(args.key),           view(args.value),
                       view(args.context_key),    view(args.context_value), writable(args.output),
                       writable(args.log_sum_exp)};
  if (v.query.count == 0) return;
  const View limits = view(args.limits);
  const GroupedProblem p =
      grouped_problem(v.query, v.key, v.context_key, limits, args.options.window);
  const auto* limit = pointer<int32_t>(limits);
  const int32_t* order = order_groups(p, limit);
  for_each(p.batch * p.kv_heads * p.chunks, p.chunk_rows() * p.context * p.dim / 2,
           [&](int64_t task) {
             const Chunk c =
                 chunk_of(p, task / p.chunks, interleaved(task % p.chunks, p.chunks), order, limit);
             forward_chunk(c, T(args.options.scale), T(args.options.softcap), v);
           });
}

// Rows of a tile as they are: [count, width] with factor, zeros behind D.
template <class T>
void gather_rows(const Chunk& c, const RowTile<T>& tile, const View& from, T factor, Rows<T> to) {
  const auto row = rows_of(c, tile, from);
  for (int64_t i = 0; i < tile.count; ++i) {
    const T* source = row(i);
#pragma omp simd
    for (int64_t d = 0; d < c.p.dim; ++d) to[i][d] = factor * source[d];
    for (int64_t d = c.p.dim; d < to.stride; ++d) to[i][d] = 0;
  }
}

// Gradients of a list's keys and values in whole vectors; no data: not wanted.
template <class T>
struct KeyGradients {
  Rows<T> key, value;
  bool wanted() const { return key.data != nullptr || value.data != nullptr; }
};

template <class T>
struct BackwardTile {
  int64_t dim, lanes, count;
  T cap;
  bool wants_query;
  T *query, *grad_output, *grad_query;   // [D, lanes]
  Rows<T> query_rows, grad_output_rows;  // [count, width]: where gradients of keys are wanted
  T *log_sum_exp, *delta;                // base 2; output . dL/doutput
  T *weights, *grad_scores;              // [keys, lanes]

  // The vector of its lanes from `first` on.
  BackwardTile vector(int64_t first) const {
    BackwardTile v = *this;
    v.lanes = kLanes<T>;
    v.count = smaller<int64_t>(kLanes<T>, count - first);
    for (T** lanes : {&v.query, &v.grad_output, &v.grad_query, &v.log_sum_exp, &v.delta})
      *lanes += first;
    v.query_rows = query_rows.from(first);
    v.grad_output_rows = grad_output_rows.from(first);
    return v;
  }
};

// Scores and dL/dweights become weights (where they are kept) and dL/dscores, both 0 where a row
// does not see the key.
template <bool kCaps, bool kHides, int kVectors, class T>
void weigh(const BackwardTile<T>& w, bool keeps, int64_t first, int64_t keys,
           const Sight<T>& sight) {
  constexpr int64_t kWidth = kLanes<T>;
  Vector<T> log_sum_exp[kVectors], delta[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    log_sum_exp[v] = load(w.log_sum_exp + v * kWidth);
    delta[v] = load(w.delta + v * kWidth);
  }
  [[maybe_unused]] const T inverse = kCaps ? T(1) / (w.cap * kLog2E<T>) : T(0);
  for (int64_t j = 0; j < keys; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = j * kTileLanes<T> + v * kWidth;
      const Vector<T> score = load(w.weights + at);
      Vector<T> weight = exp2_falling_lanes<T>(score - log_sum_exp[v]);
      if constexpr (kHides)
        weight = choose_lanes<T>(sight.visible(v * kWidth, first + j), weight, Vector<T>{});
      Vector<T> gradient = weight * (load(w.grad_scores + at) - delta[v]);
      if constexpr (kCaps) {
        const Vector<T> bend = score * inverse;
        gradient *= T(1) - bend * bend;
      }
      if (keeps) store(w.weights + at, weight);
      store(w.grad_scores + at, gradient);
    }
}

// to [keys, D] += weights [keys, rows] times rows [rows, D].
template <class T>
void add_to_keys(const BackwardTile<T>& w, const T* weights, int64_t keys, Rows<T> rows,
                 Rows<T> to) {
  for (int64_t d = 0; d < to.stride; d += kTileColumns<T>)
    for (int64_t j = 0; j < keys; j += kTileRows)
      product(smaller<int64_t>(kTileRows, keys - j), w.count,
              Left<T>{weights + j * kTileLanes<T>, kTileLanes<T>, 1}, rows.data + d, rows.stride,
              T(1), Into::add, to[j] + d, to.stride,
              smaller<int64_t>(kTileColumns<T>, to.stride - d));
}

// `keys` begin with the list's key `origin`, `gradients` with its first.
template <class T>
void attend_backward(const BackwardTile<T>& w, const Sight<T>& sight, KeyList<T> keys,
                     const KeyGradients<T>& gradients, int64_t origin) {
  over_blocks(sight, [&](int64_t first, int64_t count) {
    const int64_t at = (first - origin) * w.dim;
    multiply_keys(keys.key + at, count, w.dim, w.query, w.lanes, w.weights);
    multiply_keys(keys.value + at, count, w.dim, w.grad_output, w.lanes, w.grad_scores);
    if (w.cap > T(0)) cap_base2(w.weights, count, w.lanes, w.cap);
    const bool hides = sight.hides_some(first, count), wide = w.lanes > kLanes<T>,
               keeps = gradients.value.data != nullptr;
    const auto run = [&](auto caps, auto hidden) {
      if (wide)
        weigh<caps.value, hidden.value, 2>(w, keeps, first, count, sight);
      else
        weigh<caps.value, hidden.value, 1>(w, keeps, first, count, sight);
    };
    if (w.cap > T(0))
      run(std::true_type{}, std::true_type{});
    else if (hides)
      run(std::false_type{}, std::true_type{});
    else
      run(std::false_type{}, std::false_type{});
    if (w.wants_query)
      add_weighted(keys.key + at, count, w.dim, w.grad_scores, w.lanes, w.grad_query);
    if (gradients.key.data != nullptr)
      add_to_keys(w, w.grad_scores, count, w.query_rows, gradients.key.from(first));
    if (gradients.value.data != nullptr)
      add_to_keys(w, w.weights, count, w.grad_output_rows, gradients.value.from(first));
  });
}

struct BackwardViews {
  View query, key, value, context_key, context_value, output, log_sum_exp, grad_output, grad_query,
      grad_key, grad_value, grad_context_key, grad_context_value;
};

// Room for the gradients that are wanted of `count` keys, as zeros.
template <class T>
KeyGradients<T> cleared_gradients(Arena<T>& arena, bool key, bool value, int64_t count,
                                  int64_t width) {
  const auto room = [&](bool wanted) -> Rows<T> {
    if (!wanted) return {nullptr, width};
    T* rows = arena.take(count * width);
    fill(rows, count * width, T(0));
    return {rows, width};
  };
  const Rows<T> of_key = room(key);
  return {of_key, room(value)};
}

template <class T>
void backward_chunk(const Chunk& c, T scale, T cap, const BackwardViews& v,
                    const KeyGradients<T>& context) {
  const GroupedProblem& p = c.p;
  constexpr int64_t kWide = kTileLanes<T>;
  const int64_t width = round_up(p.dim, kLanes<T>);
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(chunk_keys_size<T>(c) + 2 * (c.keys() * width + 16) +
                                  (3 * p.dim + 2 * width + 2 + 2 * kKeys) * kWide + 16) *
                               sizeof(T)))};
  const ChunkKeys<T> keys = copy_keys<T>(c, arena, v.key, v.value, v.context_key, v.context_value);
  const KeyGradients<T> own = cleared_gradients(arena, v.grad_key.data != nullptr,
                                                v.grad_value.data != nullptr, c.keys(), width);
  BackwardTile<T> w{p.dim,
                    0,
                    0,
                    cap,
                    v.grad_query.data != nullptr,
                    arena.take(p.dim * kWide),
                    arena.take(p.dim * kWide),
                    arena.take(p.dim * kWide),
                    {arena.take(width * kWide), width},
                    {arena.take(width * kWide), width},
                    arena.take(kWide),
                    arena.take(kWide),
                    arena.take(kKeys * kWide),
                    arena.take(kKeys * kWide)};
  for (int64_t first = 0; first < c.rows(); first += kWide) {
    const RowTile<T> tile = tile_at<T>(c, first);
    w.count = tile.count;
    w.lanes = tile.lanes();
    gather(c, tile, v.query, query_factor(scale, cap), w.query);
    gather(c, tile, v.grad_output, T(1), w.grad_output);
    if (own.wanted() || context.wanted()) {
      gather_rows(c, tile, v.query, scale, w.query_rows);
      gather_rows(c, tile, v.grad_output, T(1), w.grad_output_rows);
    }
    // delta: the output's rows into the lanes that will hold the query's gradient.
    gather(c, tile, v.output, T(1), w.grad_query);
    for (int64_t i = 0; i < kWide; i += kLanes<T>) {
      Vector<T> delta{};
      for (int64_t d = 0; d < p.dim; ++d)
        delta += load(w.grad_query + d * kWide + i) * load(w.grad_output + d * kWide + i);
      store(w.delta + i, delta);
    }
    for (int64_t i = 0; i < kWide; ++i)
      w.log_sum_exp[i] = pointer<T>(v.log_sum_exp)[c.statistic(tile.row[i])] * kLog2E<T>;
    fill(w.grad_query, p.dim * kWide, T(0));
    for (int64_t i = 0; i < w.lanes; i += kLanes<T>)
      attend_backward(w.vector(i), tile.own.of(i, kLanes<T>), keys.own, own, 0);
    attend_backward(w, tile.context.of(0, w.lanes), keys.context, context, keys.first);
    if (!w.wants_query) continue;
    for (int64_t i = 0; i < p.dim * kWide; i += kLanes<T>)
      store(w.grad_query + i, scale * load(w.grad_query + i));
    scatter(c, tile, w.grad_query, v.grad_query);
  }
  const auto write = [&](Rows<T> from, const View& gradient) {
    if (from.data == nullptr) return;
    const Rows<T> to = head_rows<T>(gradient, c.b, c.kv);
    c.each_key([&](int64_t i, int64_t row) { copy_row(from[i], p.dim, to[row]); });
  };
  write(own.key, v.grad_key);
  write(own.value, v.grad_value);
}

template <class T>
void backward(const GroupedAttentionBackward& args) {
  const BackwardViews v{view(args.query),
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
  const GroupedProblem p =
      grouped_problem(v.query, v.key, v.context_key, limits, args.options.window);
  const T scale = T(args.options.scale), cap = T(args.options.softcap);
  const auto* limit = pointer<int32_t>(limits);
  const int32_t* order = order_groups(p, limit);
  const int64_t heads = p.batch * p.kv_heads, work = p.chunk_rows() * p.context * p.dim,
                width = round_up(p.dim, kLanes<T>);
  const bool wants_key = v.grad_context_key.data != nullptr,
             wants_value = v.grad_context_value.data != nullptr;
  if (!wants_key && !wants_value) {
    for_each(heads * p.chunks, work, [&](int64_t task) {
      const Chunk c =
          chunk_of(p, task / p.chunks, interleaved(task % p.chunks, p.chunks), order, limit);
      backward_chunk(c, scale, cap, v, KeyGradients<T>{{nullptr, width}, {nullptr, width}});
    });
    return;
  }
  for_each(heads, p.chunks * work, [&](int64_t head) {
    Arena<T> arena{static_cast<T*>(
        scratch(Slot::local_second, size_t(2 * (p.context * width + 16)) * sizeof(T)))};
    const KeyGradients<T> sums = cleared_gradients(arena, wants_key, wants_value, p.context, width);
    for (int64_t number = 0; number < p.chunks; ++number)
      backward_chunk(chunk_of(p, head, number, order, limit), scale, cap, v, sums);
    const auto write = [&](Rows<T> from, const View& gradient) {
      if (from.data == nullptr) return;
      const Rows<T> to = head_rows<T>(gradient, head / p.kv_heads, head % p.kv_heads);
      for (int64_t t = 0; t < p.context; ++t) copy_row(from[t], p.dim, to[t]);
    };
    write(sums.key, v.grad_context_key);
    write(sums.value, v.grad_context_value);
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
