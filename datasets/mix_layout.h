#pragma once
/// Where the texts of a mix lie in tokens that are joined from many files.

#include <cstdint>
#include <string>
#include <vector>

namespace reverie {

struct MixLayout {
  struct Shard {
    int64_t first = 0, count = 0;  ///< tokens of the joined file
    /// Windows of block_size tokens, side by side, each with the token after its last.
    int64_t windows(int64_t block_size) const { return count < 1 ? 0 : (count - 1) / block_size; }
  };
  struct Entry {
    std::string name;
    double share = 1;  ///< of the rows; those of all entries add up to 1
    std::vector<Shard> shards;
    int64_t tokens() const;
    int64_t windows(int64_t block_size) const;
  };
  std::vector<Entry> entries;

  /// UserError naming an entry that has no window of block_size. `part`: "training", "held-out".
  void require_windows(int64_t block_size, const std::string& part) const;
  /// "books 70%, web 30%"; without shares where there is one entry.
  std::string in_words() const;
};

}  // namespace reverie
