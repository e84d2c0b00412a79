#pragma once
/// Batches of documents in consecutive windows, for models that carry state.

#include "datasets/passages.h"

namespace reverie {

/// Reads batch_size documents side by side, each from its first token to its last, then the next
/// batch_size: all rows of a batch begin theirs together, at the batches for which begins_texts()
/// says so. Documents that are read together have about as many windows each, so that few rows have
/// nothing left to learn (a row without targets) before the longest is read. A document that has
/// more windows than a batch_size-th of all is cut there, as a text without documents is cut into
/// lanes. Which of equally long documents are read together, and in which order the groups come, is
/// drawn from `seed`, once: every pass is the same. Where documents do not fill the last group, it
/// takes some that were read already.
class DocumentSampler final : public Sampler {
 public:
  /// UserError when there are fewer windows than rows.
  DocumentSampler(TokenFile tokens, const DocumentMark& mark, int64_t batch_size,
                  int64_t block_size, uint64_t seed);
  Batch rows(int64_t batch_index, int64_t first_row, int64_t row_count) const override;
  int64_t target_count(int64_t batch_index) const override;
  int64_t window_start(int64_t batch_index, int64_t row) const override;
  /// How many tokens of the row have another of the document behind them to predict.
  int64_t window_targets(int64_t batch_index, int64_t row) const;
  bool begins_texts(int64_t batch_index) const override;
  int64_t batches_per_pass() const { return first_batches_.back(); }
  /// What row `row` of batch `batch_index` reads.
  const Passage& passage(int64_t batch_index, int64_t row) const;

 private:
  size_t group_of(int64_t batch_index) const;
  PassageRow row_of(int64_t batch_index, int64_t row) const;

  std::vector<Passage> passages_;       ///< [group, row]
  std::vector<int64_t> first_batches_;  ///< of each group in a pass, and the pass's length
};

}  // namespace reverie
