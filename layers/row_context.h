#pragma once
/// RowContext: the keys and values that rows of one forward see beside their own. The blocks of a
/// transformer are the same in training, in decoding and in a coprocessor's packed groups; only this
/// differs.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "autograd/ops/attention.h"
#include "layers/key_values.h"
#include "layers/sequence_state.h"

namespace reverie {

class RowContext;

/// One layer of a context, for a block that is computed again in backward, when the context is gone.
struct RepeatedLayer {
  std::vector<Variable> reads;  ///< what attend() reads beside its arguments, gradients included
  /// A context of that layer alone which reads these instead. Empty: its block is computed once.
  std::function<std::unique_ptr<RowContext>(const std::vector<Variable>& reads)> context;
};

class RowContext {
 public:
  virtual ~RowContext() = default;
  /// i32 [T] (of every batch entry) or [B, T]: where the rows sit in their text.
  virtual const Tensor& positions() const = 0;
  /// One layer's attention: query [B, T, heads * D], key and value [B, T, kv_heads * D], turned to
  /// their positions already -> [B, T, heads * D].
  virtual Variable attend(int64_t layer, const Variable& query, const Variable& key,
                          const Variable& value, const AttentionSpec&) = 0;
  /// Whether a row sees itself and all rows before it, and nothing else. Then one packed projection
  /// need not be taken apart, and a block is a function of its rows alone.
  virtual bool plain() const { return false; }
  /// The rows of [B, T, C] whose final states are wanted: all, unless a context says otherwise.
  /// The last block makes keys and values of all rows, and goes on with these alone.
  virtual Variable wanted(const Variable& rows) const { return rows; }
  /// attend() of the wanted rows alone, beside the keys of all.
  virtual Variable attend_wanted(int64_t layer, const Variable& query, const Variable& key,
                                 const Variable& value, const AttentionSpec& spec) {
    return wanted(attend(layer, query, key, value, spec));
  }

  // ---- rematerialisation: without these, blocks are computed once and keep what they computed ----
  virtual RepeatedLayer repeated(int64_t layer) const { return {}; }
  /// Values that attend() of a repeated layer made for others to read.
  virtual std::vector<Variable> left() const { return {}; }
  /// Keeps these values as attend() of the layer would have.
  virtual void keep(int64_t layer, const std::vector<Variable>& left) {}
};

/// A text from its beginning.
class CausalContext final : public RowContext {
 public:
  explicit CausalContext(int64_t time);
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;
  bool plain() const override { return true; }
  RepeatedLayer repeated(int64_t layer) const override;

 private:
  Tensor positions_;
};

/// Another context of which every layer's keys and values are kept for others to read.
class RecordingContext final : public RowContext {
 public:
  RecordingContext(RowContext& rows, KeyValues& kept) : rows_(rows), kept_(kept) {}
  const Tensor& positions() const override { return rows_.positions(); }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;
  RepeatedLayer repeated(int64_t layer) const override;
  void keep(int64_t layer, const std::vector<Variable>& left) override;

 private:
  void require_next(int64_t layer) const;

  RowContext& rows_;
  KeyValues& kept_;
};

/// Rows that go on where a cache ends; it is appended to.
class CacheContext final : public RowContext {
 public:
  CacheContext(SequenceState& state, int64_t time);
  const Tensor& positions() const override { return positions_; }
  /// Under NoGrad.
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;

 private:
  SequenceState& state_;
  Tensor positions_;
};

/// Rows after a prefix that is known by its keys and values, which may be none.
class PrefixContext final : public RowContext {
 public:
  /// Positions go on where the prefix ends; or from `first_position` on, where what came before the
  /// prefix was dropped.
  PrefixContext(const KeyValues& prefix, int64_t time,
                std::optional<int64_t> first_position = std::nullopt);
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;

 private:
  const KeyValues& prefix_;
  Tensor positions_;
};

/// Rows that go on where `known` ends, which grows by them: as CacheContext, but gradients flow into
/// and out of all rows, as when hidden states are fed back.
class GrowingPrefixContext final : public RowContext {
 public:
  GrowingPrefixContext(KeyValues& known, int64_t time);
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;
  RepeatedLayer repeated(int64_t layer) const override;
  void keep(int64_t layer, const std::vector<Variable>& left) override;

 private:
  KeyValues& known_;
  int64_t first_position_;
  Tensor positions_;
};

/// Visibility inside a group: latents in front, tokens behind them.
struct GroupMask {
  int64_t latents = 0;  ///< rows in front of each group
  bool latents_see_text = true, tokens_see_text = true, tokens_see_latents = true;
};

/// Packed groups of equally many rows, all beside one text (the coprocessor's training, Liu et al.
/// 2024): group g of entry b sees the first limits[b, g] rows of the text and, causally, itself, as
/// far as the mask goes. Groups sit at the positions behind their limit; where nobody sees the
/// text, at the beginning.
class PackedGroupsContext final : public RowContext {
 public:
  /// limits i32 [B, G]; rows_per_group S, so that the rows are [B, G * S, ..]; of each group, rows
  /// from `first_wanted` on are wanted. UserError for a mask that makes no sense: of the text but
  /// not of the latents behind it.
  PackedGroupsContext(const KeyValues& text, const Tensor& limits, int64_t rows_per_group,
                      const GroupMask& mask = {}, int64_t first_wanted = 0);
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;
  Variable wanted(const Variable& rows) const override;
  Variable attend_wanted(int64_t layer, const Variable& query, const Variable& key,
                         const Variable& value, const AttentionSpec& spec) override;
  RepeatedLayer repeated(int64_t layer) const override;

 private:
  const KeyValues& text_;
  GroupMask mask_;
  int64_t rows_per_group_, first_wanted_;
  Tensor limits_, positions_;
};

/// The same behind rows that are known by their keys and values alone (latents that go into the
/// cache): group g of entry b sees the first limits[b, g] rows of the text, its own N known rows,
/// and, causally, itself. It sits where N rows behind the limit end.
class PrefixedGroupsContext final : public RowContext {
 public:
  /// limits i32 [B, G]; known: keys and values of [B, G * N, ..] rows; rows_per_group S.
  PrefixedGroupsContext(const KeyValues& text, const Tensor& limits, const KeyValues& known,
                        int64_t rows_per_group);
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override;
  RepeatedLayer repeated(int64_t layer) const override;

 private:
  const KeyValues& text_;
  const KeyValues& known_;
  Tensor limits_, positions_;
};

}  // namespace reverie
