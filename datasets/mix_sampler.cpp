#include "datasets/mix_sampler.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "datasets/seeded_order.h"

namespace reverie {

namespace {

constexpr int kPartBits = 32;

// How many of the first n rows an entry takes.
uint64_t rows_taken(uint64_t n, uint64_t part, uint64_t phase) {
  return uint64_t((static_cast<unsigned __int128>(n) * part + phase) >> kPartBits);
}

}  // namespace

MixSampler::MixSampler(TokenFile tokens, const MixLayout& mix, int64_t batch_size,
                       int64_t block_size, uint64_t seed)
    : Sampler(std::move(tokens), batch_size, block_size) {
  mix.require_windows(block_size, "training");
  double rest = 1;  // share of the entries from this one on
  for (const MixLayout::Entry& from : mix.entries) {
    Entry entry;
    entry.seed = derive_seed(seed, entries_.size());
    entry.phase = philox(entry.seed, 0).v[0];
    entry.part = uint64_t(std::llround(std::ldexp(std::min(1.0, from.share / rest), kPartBits)));
    rest -= from.share;
    uint64_t end = 0;
    for (const MixLayout::Shard& shard : from.shards) {
      if (shard.windows(block_size) == 0) continue;
      end += uint64_t(shard.windows(block_size));
      entry.shards.push_back(shard);
      entry.window_ends.push_back(end);
    }
    entries_.push_back(std::move(entry));
  }
}

MixSampler::Draw MixSampler::draw(int64_t batch_index, int64_t row) const {
  uint64_t place = uint64_t(batch_index) * uint64_t(batch_size()) + uint64_t(row);
  for (size_t e = 0; e + 1 < entries_.size(); ++e) {
    const uint64_t before = rows_taken(place, entries_[e].part, entries_[e].phase);
    if (rows_taken(place + 1, entries_[e].part, entries_[e].phase) > before) return {e, before};
    place -= before;
  }
  return {entries_.size() - 1, place};
}

int64_t MixSampler::window_start(int64_t batch_index, int64_t row) const {
  const Draw drawn = draw(batch_index, row);
  const Entry& entry = entries_[drawn.entry];
  const uint64_t windows = entry.window_ends.back(), pass = drawn.index / windows;
  const uint64_t order = derive_seed(entry.seed, 2 * pass + 1),
                 skipped = derive_seed(entry.seed, 2 * pass + 2);
  const uint64_t place = seeded_place(order, drawn.index % windows, windows);
  const auto shard_index =
      size_t(std::upper_bound(entry.window_ends.begin(), entry.window_ends.end(), place) -
             entry.window_ends.begin());
  const MixLayout::Shard& shard = entry.shards[shard_index];
  const uint64_t window = place - (shard_index == 0 ? 0 : entry.window_ends[shard_index - 1]);
  const int64_t left = shard.count - 1 - shard.windows(block_size()) * block_size();
  const auto skip = int64_t(philox_below(skipped, shard_index, uint64_t(left) + 1));
  return shard.first + skip + int64_t(window) * block_size();
}

}  // namespace reverie
