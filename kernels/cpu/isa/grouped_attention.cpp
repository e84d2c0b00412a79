#include "kernels/attention.h"

#include "kernels/cpu/isa/grouped_rows.h"

// Rows lie side by side in the lanes of vectors: a tile's queries and outputs are [D, lanes], its
// scores [keys, lanes]. So lanes are full however short groups and heads are, nothing is summed
// across lanes, and keys and values are read from panels, one number at a time. Scores are in base
// 2: the scale of the queries carries log2(e).
//
// Each row is computed in the same order whatever the number of threads; the gradient of the
// context is summed over the chunks in order, by one thread for each of its heads.

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Keys meet a tile in blocks whose scores stay in the first-level cache.
constexpr int64_t kKeys = 48;

template <class T>
constexpr T kLog2E = T(1.44269504088896340736);
template <class T>
constexpr T kLn2 = T(0.69314718055994530942);

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

template <class T>
struct KeyList {
  KeyPanels<T> key, value;
};

// The context's keys that a chunk's rows see, from `first` on, and the chunk's own.
template <class T>
struct ChunkKeys {
  int64_t first;
  KeyList<T> context, own;
};
template <class T>
int64_t chunk_keys_size(const Chunk& c) {
  return 2 * (KeyPanels<T>::size(c.p.context, c.p.dim) + KeyPanels<T>::size(c.keys(), c.p.dim));
}
template <class T>
ChunkKeys<T> pack_keys_of(const Chunk& c, Arena<T>& arena, const View& key, const View& value,
                          const View& context_key, const View& context_value) {
  const int64_t dim = c.p.dim, first = c.lowest_key() / kLanes<T> * kLanes<T>,
                count = larger<int64_t>(0, c.limit(0) - first);
  const auto of_context = [&](const View& v) {
    const Rows<T> rows = head_rows<T>(v, c.b, c.kv).from(first);
    return pack_keys(arena.take(KeyPanels<T>::size(count, dim)), count, dim,
                     [&](int64_t i) -> const T* { return rows[i]; });
  };
  const auto of_groups = [&](const View& v) {
    const Rows<T> rows = head_rows<T>(v, c.b, c.kv);
    const int64_t size = c.p.size;
    return pack_keys(arena.take(KeyPanels<T>::size(c.keys(), dim)), c.keys(), dim,
                     [&, group = c.order, place = int64_t(-1)](int64_t) mutable -> const T* {
                       if (++place == size) place = 0, ++group;
                       return rows[*group * size + place];
                     });
  };
  const KeyPanels<T> keys = of_context(context_key), values = of_context(context_value);
  const KeyPanels<T> own_keys = of_groups(key);
  return {first, {keys, values}, {own_keys, of_groups(value)}};
}

// row(i): row i of a tile in a tensor [B, G * Q, H, D].
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

// body(tile) for all of a chunk's rows; ahead(tile) before, for the tile that comes next.
template <class T, class Ahead, class Body>
REVERIE_INLINE void over_tiles(const Chunk& c, const Ahead& ahead, const Body& body) {
  constexpr int64_t kWide = kTileLanes<T>;
  RowTile<T> next = tile_at<T>(c, 0);
  ahead(next);
  for (int64_t first = 0; first < c.rows(); first += kWide) {
    const RowTile<T> tile = next;
    if (first + kWide < c.rows()) ahead(next = tile_at<T>(c, first + kWide));
    body(tile);
  }
}
template <bool kToWrite, class T>
REVERIE_INLINE void prefetch(const Chunk& c, const RowTile<T>& tile, const View& v) {
  if (v.data == nullptr) return;
  const auto row = rows_of(c, tile, v);
  for (int64_t i = 0; i < tile.count; ++i) prefetch_row<kToWrite>(row(i), c.p.dim);
}

// body(first key, keys) over the blocks of keys that some rows see some of, in whole steps: the
// first and the last may hold keys that none sees.
template <class T, class Body>
void over_blocks(const Sight<T>& sight, const Body& body) {
  constexpr int64_t kStep = kKeyStep<T>;
  for (int64_t key = sight.low / kStep * kStep; key < sight.high; key += kKeys)
    body(key, smaller(kKeys, round_up(sight.high - key, kStep)));
}

// A soft-capped score in base 2, from one in base e.
template <class T>
REVERIE_INLINE Vector<T> cap_base2(Vector<T> score, T inverse, T limit) {
  return limit *
         map_lanes<T>(
             score * inverse, [](T x) __attribute__((always_inline)) { return fmath::tanh(x); });
}

// body(soft-capped, hides some keys), as constants; what is capped counts as hiding some.
template <class Body>
void with_kinds(bool caps, bool hides, const Body& body) {
  if (caps)
    body(std::true_type{}, std::true_type{});
  else if (hides)
    body(std::false_type{}, std::true_type{});
  else
    body(std::false_type{}, std::false_type{});
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

// One more block of keys for the online softmax of a tile: the output is multiplied by what the new
// tops ask for, and the block's values are added. `first` counts from the list's first key, `at`
// from the first that is packed.
template <bool kCaps, bool kHides, int kVectors, class T>
void attend_block(const ForwardTile<T>& w, const Sight<T>& sight, const KeyList<T>& keys,
                  int64_t first, int64_t at, int64_t count) {
  constexpr int64_t kWidth = kLanes<T>;
  Vector<T> top[kVectors], sum[kVectors], correction[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    top[v] = load(w.tops + v * kWidth);
    sum[v] = Vector<T>{};
  }
  [[maybe_unused]] const T inverse = kCaps ? T(1) / w.cap : T(0), limit = w.cap * kLog2E<T>;
  multiply_keys<kVectors>(
      keys.key, at, count, w.dim,
      w.query, [&](int64_t j, const auto& total) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < kKeyStep<T>; ++i)
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            Vector<T> score = total[i][v];
            if constexpr (kCaps) score = cap_base2(score, inverse, limit);
            if constexpr (kHides)
              score = choose_lanes<T>(sight.visible(v * kWidth, first + j + i), score,
                                      splat(kLowest<T>));
            store(w.scores + (j + i) * kTileLanes<T> + v * kWidth, score);
            top[v] = choose_lanes<T>(score > top[v], score, top[v]);
          }
      });
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v)
    correction[v] = exp2_falling_lanes<T>(load(w.tops + v * kWidth) - top[v]);
  for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* score = w.scores + j * kTileLanes<T> + v * kWidth;
      Vector<T> weight = exp2_falling_lanes<T>(load(score) - top[v]);
      if constexpr (kHides)
        weight = choose_lanes<T>(sight.visible(v * kWidth, first + j), weight, Vector<T>{});
      sum[v] += weight;
      store(score, weight);
    }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    store(w.tops + v * kWidth, top[v]);
    store(w.totals + v * kWidth, load(w.totals + v * kWidth) * correction[v] + sum[v]);
  }
  add_weighted<kVectors>(keys.value, at, count, w.scores, correction, w.output);
}

// The packed keys begin with the list's key `origin`.
template <class T>
void attend(const ForwardTile<T>& w, const Sight<T>& sight, const KeyList<T>& keys,
            int64_t origin) {
  over_blocks(sight, [&](int64_t first, int64_t count) {
    const auto run = [&](auto caps, auto hides) {
      if (w.lanes > kLanes<T>)
        attend_block<caps.value, hides.value, 2>(w, sight, keys, first, first - origin, count);
      else
        attend_block<caps.value, hides.value, 1>(w, sight, keys, first, first - origin, count);
    };
    with_kinds(w.cap > T(0), sight.hides_some(first, count), run);
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
  const int64_t depth = KeyPanels<T>::depth_of(p.dim);
  Arena<T> arena{static_cast<T*>(scratch(
      Slot::local,
      size_t(chunk_keys_size<T>(c) + 4 * 16 + (p.dim + depth + 2 + kKeys) * kWide) * sizeof(T)))};
  const ChunkKeys<T> keys =
      pack_keys_of<T>(c, arena, v.key, v.value, v.context_key, v.context_value);
  ForwardTile<T> w{p.dim,
                   0,
                   cap,
                   arena.take(p.dim * kWide),
                   arena.take(depth * kWide),
                   arena.take(kWide),
                   arena.take(kWide),
                   arena.take(kKeys * kWide)};
  const auto ahead = [&](const RowTile<T>& tile) __attribute__((always_inline)) {
    prefetch<false>(c, tile, v.query);
    prefetch<true>(c, tile, v.output);
  };
  over_tiles<T>(c, ahead, [&](const RowTile<T>& tile) {
    w.lanes = tile.lanes();
    gather(c, tile, v.query, query_factor(scale, cap), w.query);
    fill(w.output, depth * kWide, T(0));
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
  });
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
  const int64_t heads = p.batch * p.kv_heads;
  for_each_unequal(heads * p.chunks, p.chunk_rows() * p.context * p.dim / 2, [&](int64_t task) {
    const Chunk c = chunk_of(p, task % heads, task / heads, order, limit);
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

// to [keys, D] += weights [keys, rows] times rows [rows, D], for whole steps of keys and vectors of
// D from number d on.
template <int kVectors, class T>
REVERIE_INLINE void add_to_keys_at(int64_t d, const BackwardTile<T>& w, const T* weights,
                                   int64_t keys, Rows<T> rows, Rows<T> to) {
  constexpr int kStep = int(kKeyStep<T>);
  for (int64_t j = 0; j < keys; j += kStep) {
    Vector<T> total[kStep][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kStep; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) total[i][v] = load(to[j + i] + d + v * kLanes<T>);
    for (int64_t r = 0; r < w.count; ++r) {
      Vector<T> right[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) right[v] = load(rows[r] + d + v * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < kStep; ++i) {
        const T left = weights[(j + i) * kTileLanes<T> + r];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) total[i][v] += left * right[v];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kStep; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) store(to[j + i] + d + v * kLanes<T>, total[i][v]);
  }
}
template <class T>
void add_to_keys(const BackwardTile<T>& w, const T* weights, int64_t keys, Rows<T> rows,
                 Rows<T> to) {
  int64_t d = 0;
  for (; d + kTileColumns<T> <= to.stride; d += kTileColumns<T>)
    add_to_keys_at<2>(d, w, weights, keys, rows, to);
  if (d < to.stride) add_to_keys_at<1>(d, w, weights, keys, rows, to);
}

// A block of keys, as attend_block() takes it: weights (where they are kept) and dL/dscores, both 0
// where a row does not see the key, and what they add to the query's gradient.
template <bool kCaps, bool kHides, int kVectors, class T>
void attend_block_backward(const BackwardTile<T>& w, bool keeps, const Sight<T>& sight,
                           const KeyList<T>& keys, int64_t first, int64_t at, int64_t count) {
  constexpr int64_t kWidth = kLanes<T>;
  Vector<T> log_sum_exp[kVectors], delta[kVectors], one[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    log_sum_exp[v] = load(w.log_sum_exp + v * kWidth);
    delta[v] = load(w.delta + v * kWidth);
    one[v] = splat(T(1));
  }
  [[maybe_unused]] const T inverse = kCaps ? T(1) / w.cap : T(0), limit = w.cap * kLog2E<T>,
                           inverse2 = kCaps ? T(1) / limit : T(0);
  multiply_keys<kVectors>(
      keys.key, at, count, w.dim,
      w.query, [&](int64_t j, const auto& total) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < kKeyStep<T>; ++i)
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            Vector<T> score = total[i][v];
            if constexpr (kCaps) score = cap_base2(score, inverse, limit);
            store(w.weights + (j + i) * kTileLanes<T> + v * kWidth, score);
          }
      });
  multiply_keys<kVectors>(
      keys.value, at, count, w.dim,
      w.grad_output, [&](int64_t j, const auto& total) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < kKeyStep<T>; ++i)
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            const int64_t place = (j + i) * kTileLanes<T> + v * kWidth;
            const Vector<T> score = load(w.weights + place);
            Vector<T> weight = exp2_falling_lanes<T>(score - log_sum_exp[v]);
            if constexpr (kHides)
              weight =
                  choose_lanes<T>(sight.visible(v * kWidth, first + j + i), weight, Vector<T>{});
            Vector<T> gradient = weight * (total[i][v] - delta[v]);
            if constexpr (kCaps) {
              const Vector<T> bend = score * inverse2;
              gradient *= T(1) - bend * bend;
            }
            if (keeps) store(w.weights + place, weight);
            store(w.grad_scores + place, gradient);
          }
      });
  if (w.wants_query) add_weighted<kVectors>(keys.key, at, count, w.grad_scores, one, w.grad_query);
}

// The packed keys begin with the list's key `origin`, `gradients` with its first.
template <class T>
void attend_backward(const BackwardTile<T>& w, const Sight<T>& sight, const KeyList<T>& keys,
                     const KeyGradients<T>& gradients, int64_t origin) {
  const bool keeps = gradients.value.data != nullptr;
  over_blocks(sight, [&](int64_t first, int64_t count) {
    const auto run = [&](auto caps, auto hides) {
      const int64_t at = first - origin;
      if (w.lanes > kLanes<T>)
        attend_block_backward<caps.value, hides.value, 2>(w, keeps, sight, keys, first, at, count);
      else
        attend_block_backward<caps.value, hides.value, 1>(w, keeps, sight, keys, first, at, count);
    };
    with_kinds(w.cap > T(0), sight.hides_some(first, count), run);
    if (gradients.key.data != nullptr)
      add_to_keys(w, w.grad_scores, count, w.query_rows, gradients.key.from(first));
    if (keeps) add_to_keys(w, w.weights, count, w.grad_output_rows, gradients.value.from(first));
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
  const int64_t width = round_up(p.dim, kLanes<T>), depth = KeyPanels<T>::depth_of(p.dim);
  Arena<T> arena{static_cast<T*>(
      scratch(Slot::local, size_t(chunk_keys_size<T>(c) + 2 * c.keys() * width + 8 * 16 +
                                  (2 * p.dim + depth + 2 * width + 2 + 2 * kKeys) * kWide) *
                               sizeof(T)))};
  const ChunkKeys<T> keys =
      pack_keys_of<T>(c, arena, v.key, v.value, v.context_key, v.context_value);
  const KeyGradients<T> own = cleared_gradients(arena, v.grad_key.data != nullptr,
                                                v.grad_value.data != nullptr, c.keys(), width);
  BackwardTile<T> w{p.dim,
                    0,
                    0,
                    cap,
                    v.grad_query.data != nullptr,
                    arena.take(p.dim * kWide),
                    arena.take(p.dim * kWide),
                    arena.take(depth * kWide),
                    {arena.take(width * kWide), width},
                    {arena.take(width * kWide), width},
                    arena.take(kWide),
                    arena.take(kWide),
                    arena.take(kKeys * kWide),
                    arena.take(kKeys * kWide)};
  const auto ahead = [&](const RowTile<T>& tile) __attribute__((always_inline)) {
    for (const View* rows : {&v.query, &v.grad_output, &v.output}) prefetch<false>(c, tile, *rows);
    prefetch<true>(c, tile, v.grad_query);
  };
  over_tiles<T>(c, ahead, [&](const RowTile<T>& tile) {
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
    fill(w.grad_query, depth * kWide, T(0));
    for (int64_t i = 0; i < w.lanes; i += kLanes<T>)
      attend_backward(w.vector(i), tile.own.of(i, kLanes<T>), keys.own, own, 0);
    attend_backward(w, tile.context.of(0, w.lanes), keys.context, context, keys.first);
    if (!w.wants_query) return;
    for (int64_t i = 0; i < p.dim * kWide; i += kLanes<T>)
      store(w.grad_query + i, scale * load(w.grad_query + i));
    scatter(c, tile, w.grad_query, v.grad_query);
  });
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
                width = round_up(p.dim, kLanes<T>), count = round_up(p.context, kKeyStep<T>);
  const bool wants_key = v.grad_context_key.data != nullptr,
             wants_value = v.grad_context_value.data != nullptr;
  if (!wants_key && !wants_value) {
    for_each_unequal(heads * p.chunks, work, [&](int64_t task) {
      const Chunk c = chunk_of(p, task % heads, task / heads, order, limit);
      backward_chunk(c, scale, cap, v, KeyGradients<T>{{nullptr, width}, {nullptr, width}});
    });
    return;
  }
  for_each(heads, p.chunks * work, [&](int64_t head) {
    Arena<T> arena{
        static_cast<T*>(scratch(Slot::local_second, size_t(2 * (count * width + 16)) * sizeof(T)))};
    const KeyGradients<T> sums = cleared_gradients(arena, wants_key, wants_value, count, width);
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
