#pragma once
/// Byte-pair merging (Sennrich et al. 2016): the pair of lowest rank first, the leftmost of equals.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reverie {

struct Merge {
  int32_t left, right, result;  ///< tokens
};

/// Which pairs merge, into what, and in which order. Used by every tokenizer that merges.
class MergeTable {
 public:
  explicit MergeTable(size_t merges = 0);  ///< room for that many; add() no more
  /// False where the pair is there already; it then stays as it was.
  bool add(const Merge&, int32_t rank);
  /// Merges tokens[first..] until no pair of neighbours merges. n^2 for short words, where that is
  /// fastest, and n log n for long ones.
  void merge(std::vector<int32_t>& tokens, size_t first) const;

 private:
  struct Found {
    int32_t rank, result;
  };
  Found find(int32_t left, int32_t right) const;
  void merge_short(std::vector<int32_t>& tokens, size_t first) const;
  void merge_long(std::vector<int32_t>& tokens, size_t first) const;

  /// Open addressing over the pairs: left << 32 | right, and what becomes of it.
  std::vector<uint64_t> keys_;
  std::vector<Found> values_;
};

}  // namespace reverie
