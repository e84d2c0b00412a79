#pragma once
/// Batches for language modelling: which windows of a token file a step trains on.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"
#include "datasets/documents.h"
#include "datasets/examples.h"
#include "datasets/task_data.h"
#include "datasets/token_file.h"

namespace reverie {

/// Marks a target that no loss counts.
inline constexpr int32_t kIgnoredTarget = -1;

struct Batch {
  Tensor tokens;   ///< i32 [rows, block_size], CPU
  Tensor targets;  ///< i32 [rows, block_size]: targets[r, t] is the token after tokens[r, t]
  int64_t target_count = 0;  ///< targets that are not kIgnoredTarget
};

/// Windows of block_size tokens from `starts` on; every token has a target.
Batch read_windows(const TokenFile& tokens, const std::vector<int64_t>& starts, int64_t block_size);

/// A stream of batches of batch_size rows of block_size tokens. Batch i is a pure function of the
/// sampler's arguments and i, so that one integer is its whole state, and any split of a batch over
/// micro-batches or ranks takes rows of the same batch.
class Sampler {
 public:
  virtual ~Sampler() = default;
  int64_t batch_size() const { return batch_size_; }
  int64_t block_size() const { return block_size_; }
  /// Rows first_row .. first_row + row_count - 1 of batch `batch_index`. UserError when there are no
  /// such rows.
  virtual Batch rows(int64_t batch_index, int64_t first_row, int64_t row_count) const;
  Batch batch(int64_t batch_index) const { return rows(batch_index, 0, batch_size_); }
  /// Targets in the whole batch `batch_index`, for ranks that hold part of it.
  virtual int64_t target_count(int64_t batch_index) const;
  /// The first token of row `row` of batch `batch_index`.
  virtual int64_t window_start(int64_t batch_index, int64_t row) const = 0;
  /// Whether all rows begin a text at this batch, so that state carried from the batch before must
  /// be dropped. No row begins one at another batch.
  virtual bool begins_texts(int64_t /*batch_index*/) const { return true; }

  /// Where next() stands: the index of the batch it will give. Saved in checkpoints.
  int64_t position() const { return position_; }
  void seek(int64_t batch_index);
  Batch next() { return batch(position_++); }

 protected:
  /// UserError when block_size + 1 tokens are not there: both numbers and what to do.
  Sampler(TokenFile tokens, int64_t batch_size, int64_t block_size, TargetRule rule = {});
  const TokenFile& tokens() const { return tokens_; }
  /// UserError unless the sampler has such rows.
  void require_rows(int64_t batch_index, int64_t first_row, int64_t row_count) const;

 private:
  TokenFile tokens_;
  TargetRule rule_;
  int64_t batch_size_, block_size_, position_ = 0;
};

/// UserError, with both numbers, unless a window of block_size tokens and its last target fit into
/// the tokens.
void require_window(const TokenFile& tokens, int64_t block_size);

/// Windows at random places, uniform and independent, as nanoGPT's get_batch: starts 0 .. count -
/// block_size - 1. Row r of batch i draws from Philox block i * batch_size + r of `seed`.
class RandomWindowSampler final : public Sampler {
 public:
  RandomWindowSampler(TokenFile tokens, int64_t batch_size, int64_t block_size, uint64_t seed,
                      TargetRule rule = {});
  int64_t window_start(int64_t batch_index, int64_t row) const override;

 private:
  uint64_t seed_;
};

/// Examples drawn at random, uniform and independent, of a file of records: a row is a record
/// without its last token, and its targets are what an example teaches (keep_example_targets()).
class RandomExampleSampler : public Sampler {
 public:
  RandomExampleSampler(TokenFile tokens, const ExampleLayout& layout, int64_t batch_size,
                       uint64_t seed);
  int64_t window_start(int64_t batch_index, int64_t row) const override;

 private:
  uint64_t seed_;
};

/// Reading in order, for models that carry state, of a text that is not split into documents (else
/// see document_sampler.h): the tokens are cut into batch_size lanes, and row
/// r of batch i + 1 goes on where row r of batch i ended, until the lanes are read and begin again.
class SequentialSampler final : public Sampler {
 public:
  /// UserError when a lane is shorter than block_size + 1 tokens.
  SequentialSampler(TokenFile tokens, int64_t batch_size, int64_t block_size);
  int64_t window_start(int64_t batch_index, int64_t row) const override;
  int64_t batches_per_pass() const { return batches_per_pass_; }
  /// Where the lanes begin anew.
  bool begins_texts(int64_t batch_index) const override {
    return batch_index % batches_per_pass_ == 0;
  }

 private:
  int64_t lane_tokens_, batches_per_pass_;
};

/// The same windows at every evaluation: evenly spaced over the tokens, never overlapping, in rising
/// order.
class EvaluationWindows {
 public:
  /// At most `window_count` windows; 0 or more than fit: all that fit, side by side, and a shorter
  /// one of what is left, as a batch of its own. UserError when none fits, and for joined files.
  EvaluationWindows(TokenFile tokens, int64_t batch_size, int64_t block_size, int64_t window_count);
  /// The same over documents: every window begins where one does, and no document is in two windows,
  /// so that windows are independent samples of documents. Evenly spaced among those that fit.
  static EvaluationWindows of_documents(TokenFile tokens, const DocumentMark& mark,
                                        int64_t batch_size, int64_t block_size,
                                        int64_t window_count, const TargetRule& rule = {});
  /// Examples instead of windows, at most `example_count` (0: all), evenly spaced.
  static EvaluationWindows of_examples(TokenFile tokens, const ExampleLayout& layout,
                                       int64_t batch_size, int64_t example_count);
  /// The documents of a task, each whole, in windows of block_size: as many documents as hold
  /// `window_count` windows (0: all), evenly spaced. UserError where the block_size does not fit.
  static EvaluationWindows of_task(TokenFile tokens, const TargetRule& rule, int64_t batch_size,
                                   int64_t block_size, int64_t window_count);
  /// Windows of a mix, in proportion to the shares of its entries, to the nearest window, so that their
  /// mean is in proportion, too: as many as are asked for, or as the entry that runs out first
  /// allows (0: so many). Of an entry, evenly spaced over its shards. UserError naming an entry in
  /// which none fits.
  static EvaluationWindows of_mix(TokenFile tokens, const MixLayout& mix, int64_t batch_size,
                                  int64_t block_size, int64_t window_count);
  /// of_examples(), of_task() or of_mix() where the rule names one, else windows of block_size, with
  /// the rule's window_begin.
  static EvaluationWindows over(TokenFile tokens, const TargetRule& rule, int64_t batch_size,
                                int64_t block_size, int64_t count);
  /// The whole windows whose numbers are wanted, in their order. UserError where there are none.
  EvaluationWindows where(const std::function<bool(int64_t)>& wanted) const;
  int64_t window_count() const { return window_count_ + (rest_ > 0); }
  int64_t window_start(int64_t window) const;
  int64_t batch_count() const {
    return (window_count_ + batch_size_ - 1) / batch_size_ + (rest_ > 0);
  }
  /// The last batches may have fewer rows, or a shorter one.
  Batch batch(int64_t index) const;

 private:
  EvaluationWindows() = default;

  TokenFile tokens_;
  int64_t batch_size_ = 1, block_size_ = 1;
  int64_t window_count_ = 0;     ///< of block_size
  int64_t rest_ = 0;             ///< tokens of the shorter window behind them; 0: there is none
  std::vector<int64_t> starts_;  ///< of windows over documents or examples; empty: evenly spaced
  TargetRule rule_;
};

}  // namespace reverie
