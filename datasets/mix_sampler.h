#pragma once
/// Training batches of a mix: rows from several texts, by weight.

#include <vector>

#include "datasets/mix_layout.h"
#include "datasets/sampler.h"

namespace reverie {

/// Rows are numbered over all batches: row r of batch i is row i * batch_size + r of the stream.
/// Each belongs to one entry, and of any n consecutive rows an entry has n times its share, to within
/// one row and one more for each entry before it.
///
/// An entry's rows are windows of its shards, side by side, none over a shard's end. They come in an
/// order that the seed decides, and all come before one comes again, in another order. A shard is
/// rarely a multiple of block_size: some of what is left over lies before its first window, and how
/// much is drawn anew for each pass. All of this is computed from seed and row alone.
class MixSampler final : public Sampler {
 public:
  /// UserError naming the entry that has no window of block_size.
  MixSampler(TokenFile tokens, const MixLayout& mix, int64_t batch_size, int64_t block_size,
             uint64_t seed);
  int64_t window_start(int64_t batch_index, int64_t row) const override;

  struct Draw {
    size_t entry = 0;
    uint64_t index = 0;  ///< how many rows of the stream before it are of this entry
  };
  Draw draw(int64_t batch_index, int64_t row) const;

 private:
  struct Entry {
    /// floor((n * part + phase) / 2^32) of n rows that no entry before took.
    uint64_t part = 0, phase = 0, seed = 0;
    std::vector<MixLayout::Shard> shards;  ///< those that have a window
    std::vector<uint64_t> window_ends;     ///< windows of the shards up to each
  };
  std::vector<Entry> entries_;
};

}  // namespace reverie
