#pragma once
/// Grouped attention's rows in the order in which they are computed, and the keys that each sees.

#include "kernels/cpu/isa/key_panels.h"

namespace reverie::cpu::REVERIE_ISA {

struct GroupedProblem {
  /// Groups of `size` rows with keys, of which the last `queries` ask.
  int64_t batch, groups, queries, size, heads, kv_heads, dim, context, share, window;
  int64_t per_chunk, chunks;

  int64_t rows() const { return groups * queries; }       ///< of a batch entry
  int64_t group_rows() const { return queries * share; }  ///< of all query heads on one key head
  int64_t chunk_rows() const { return per_chunk * group_rows(); }
};
static inline GroupedProblem grouped_problem(const View& query, const View& key,
                                             const View& context, const View& limits,
                                             int64_t window) {
  GroupedProblem p{};
  p.batch = query.size[0];
  p.groups = limits.size[1];
  p.queries = query.size[1] / p.groups;
  p.size = key.size[1] / p.groups;
  p.heads = query.size[2];
  p.kv_heads = key.size[2];
  p.dim = query.size[3];
  p.context = context.size[1];
  p.share = p.heads / p.kv_heads;
  const int64_t longest = p.context + p.size;
  p.window = window > 0 ? smaller(window, longest) : longest;
  // A chunk's own keys stay in the second-level cache, and pay for copying the context once more.
  const int64_t wanted_rows = larger<int64_t>(48, 24576 / p.dim);
  p.per_chunk = larger<int64_t>(1, smaller(p.groups, wanted_rows / p.group_rows()));
  p.chunks = (p.groups + p.per_chunk - 1) / p.per_chunk;
  return p;
}

/// order[b * groups + k]: the group of entry b with the k-th longest context (a counting sort;
/// equal ones keep their order).
static inline const int32_t* order_groups(const GroupedProblem& p, const int32_t* limits) {
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

/// A run of groups in that order, of one key head. Its rows: group by group, row by row, and the
/// query heads within.
struct Chunk {
  const GroupedProblem& p;
  int64_t b, kv;
  const int32_t *order, *limits;  ///< of the chunk's groups; of the entry's groups
  int64_t groups;

  struct Row {
    int64_t entry_row, head;
    int64_t group, place;  ///< the how-manieth group of the chunk; the query's number within it
  };

  int64_t rows() const { return groups * p.group_rows(); }
  int64_t keys() const { return groups * p.size; }  ///< of the groups' own
  int64_t limit(int64_t k) const { return limits[order[k]]; }
  int64_t lowest_key() const {  ///< of the context, that a row sees
    return larger<int64_t>(0, limit(groups - 1) - p.window + 1);
  }
  Row row(int64_t i) const {
    const int64_t k = i / p.group_rows(), within = i % p.group_rows(), place = within / p.share;
    return {order[k] * p.queries + place, kv * p.share + within % p.share, k, place};
  }
  /// The row behind, without divisions; not of the last one.
  Row next(Row r) const {
    if (++r.head < (kv + 1) * p.share) return r;
    r.head = kv * p.share;
    if (++r.place < p.queries) return ++r.entry_row, r;
    return {order[r.group + 1] * p.queries, r.head, r.group + 1, 0};
  }
  /// Where a row's number is in [B, H, G * Q].
  int64_t statistic(const Row& r) const { return (b * p.heads + r.head) * p.rows() + r.entry_row; }
  /// body(number, row of the entry) for the groups' own keys.
  template <class Body>
  REVERIE_INLINE void each_key(const Body& body) const {
    int64_t number = 0;
    for (int64_t k = 0; k < groups; ++k)
      for (int64_t place = 0; place < p.size; ++place) body(number++, order[k] * p.size + place);
  }
};
static inline Chunk chunk_of(const GroupedProblem& p, int64_t head, int64_t number,
                             const int32_t* order, const int32_t* limits) {
  const int64_t b = head / p.kv_heads, first = number * p.per_chunk;
  return {p,
          b,
          head % p.kv_heads,
          order + b * p.groups + first,
          limits + b * p.groups,
          smaller(p.per_chunk, p.groups - first)};
}

/// Which keys of a list - the context's, or the groups' own - some rows of a tile see: row i those
/// in [begin[i], end[i]). None sees one outside [low, high), all see all of [all_low, all_high).
template <class T>
struct Sight {
  using Number = typename IndexOf<T>::scalar;
  const Number *begin, *end;
  int64_t low, high, all_low, all_high;

  bool hides_some(int64_t first, int64_t count) const {
    return first < all_low || first + count > all_high;
  }
  /// By lane, for the vector from row i on.
  REVERIE_INLINE auto visible(int64_t i, int64_t key) const {
    using Lanes = Index<T>;
    const auto lanes = [](const Number* p) { return *reinterpret_cast<const Lanes*>(p); };
    return (lanes(begin + i) <= Number(key)) & (lanes(end + i) > Number(key));
  }
};

/// ... by all rows of a tile.
template <class T>
struct TileSight {
  using Number = typename IndexOf<T>::scalar;
  alignas(64) Number begin[kTileLanes<T>], end[kTileLanes<T>];

  /// Of `lanes` rows, from row `first` on (whole vectors).
  Sight<T> of(int64_t first, int64_t lanes) const {
    Sight<T> s{begin + first, end + first, begin[first], end[first], begin[first], end[first]};
    for (int64_t i = 1; i < lanes; ++i) {
      s.low = smaller<int64_t>(s.low, s.begin[i]);
      s.high = larger<int64_t>(s.high, s.end[i]);
      s.all_low = larger<int64_t>(s.all_low, s.begin[i]);
      s.all_high = smaller<int64_t>(s.all_high, s.end[i]);
    }
    return s;
  }
};

/// `count` rows of a chunk, side by side in the lanes of vectors, and what they see; rows beyond
/// `count` repeat the last one.
template <class T>
struct RowTile {
  int64_t count;
  Chunk::Row row[kTileLanes<T>];
  TileSight<T> context, own;  ///< keys as in the entry's context; as counted by Chunk::each_key

  /// The vectors that hold rows: all, or the first.
  int64_t lanes() const { return count > kLanes<T> ? kTileLanes<T> : kLanes<T>; }
};
/// From the chunk's row `first` on.
template <class T>
static inline RowTile<T> tile_at(const Chunk& c, int64_t first) {
  using Number = typename TileSight<T>::Number;
  const GroupedProblem& p = c.p;
  RowTile<T> tile;
  tile.count = smaller(kTileLanes<T>, c.rows() - first);
  Chunk::Row row = c.row(first);
  for (int64_t i = 0; i < kTileLanes<T>; ++i) {
    if (i > 0 && i < tile.count) row = c.next(row);
    tile.row[i] = row;
    const int64_t limit = c.limit(row.group), start = row.group * p.size,
                  place = p.size - p.queries + row.place;
    tile.context.begin[i] =
        Number(smaller(limit, larger<int64_t>(0, limit + place - p.window + 1)));
    tile.context.end[i] = Number(limit);
    tile.own.begin[i] = Number(start + larger<int64_t>(0, place - p.window + 1));
    tile.own.end[i] = Number(start + place + 1);
  }
  return tile;
}

/// to [D, lanes] = factor * rows; row(i): where the row of lane i begins.
template <class T, class Row>
static inline void rows_into_lanes(const Row& row, int64_t dim, T factor, T* to) {
  constexpr int64_t kSide = kLanes<T>;
  alignas(64) T square[kSide * kSide], turned[kSide * kSide];
  for (int64_t i = 0; i < kTileLanes<T>; i += kSide)
    for (int64_t d = 0; d < dim; d += kSide) {
      const int64_t width = smaller(kSide, dim - d);
      for (int64_t r = 0; r < kSide; ++r) copy_short(row(i + r) + d, width, square + r * kSide);
      transpose_square(square, kSide, turned, kSide);
      for (int64_t k = 0; k < width; ++k)
        store(to + (d + k) * kTileLanes<T> + i, factor * load(turned + k * kSide));
    }
}
/// Rows from [D, lanes], of `count` lanes.
template <class T, class Row>
static inline void lanes_into_rows(const T* from, int64_t dim, int64_t count, const Row& row) {
  constexpr int64_t kSide = kLanes<T>;
  alignas(64) T square[kSide * kSide], turned[kSide * kSide];
  for (int64_t i = 0; i < count; i += kSide)
    for (int64_t d = 0; d < dim; d += kSide) {
      const int64_t width = smaller(kSide, dim - d);
      for (int64_t k = 0; k < width; ++k)
        store(square + k * kSide, load(from + (d + k) * kTileLanes<T> + i));
      transpose_square(square, kSide, turned, kSide);
      for (int64_t r = 0; r < smaller(kSide, count - i); ++r)
        copy_short(turned + r * kSide, width, row(i + r) + d);
    }
}

}  // namespace reverie::cpu::REVERIE_ISA
