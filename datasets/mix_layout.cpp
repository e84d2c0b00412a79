#include "datasets/mix_layout.h"

#include "core/error.h"

namespace reverie {

int64_t MixLayout::Entry::tokens() const {
  int64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.count;
  return sum;
}

int64_t MixLayout::Entry::windows(int64_t block_size) const {
  int64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.windows(block_size);
  return sum;
}

void MixLayout::require_windows(int64_t block_size, const std::string& part) const {
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    const std::string where =
        entries.size() == 1 ? entry.name : fmt::format("$.data.mix[{}] ({})", i, entry.name);
    require(
        entry.windows(block_size) >= 1,
        "{}: its {} part has {} tokens in {} file(s), and none of these holds "
        "a window of {} tokens, block_size and one more: choose a smaller block_size, or give a "
        "longer text",
        where, part, entry.tokens(), entry.shards.size(), block_size + 1);
  }
}

std::string MixLayout::in_words() const {
  std::string out;
  for (const Entry& entry : entries)
    out += (out.empty() ? "" : ", ") +
           (entries.size() == 1 ? entry.name
                                : fmt::format("{} {:.4g}%", entry.name, 100 * entry.share));
  return out;
}

}  // namespace reverie
