#pragma once
/// Decoder-only transformers of every family (layers/families) from the same blocks.

#include <functional>

#include "autograd/ops/attention.h"
#include "layers/language_model.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"
#include "layers/row_context.h"
#include "layers/transformer_shape.h"

namespace reverie {

class SelfAttention final : public Module {
 public:
  SelfAttention(const TransformerShape&, int64_t layer, const Build&);
  /// x [B, T, C] -> [B, T, C]; or, of the rows, those that the context wants alone.
  Variable forward(const Variable& x, RowContext&, bool only_wanted = false) const;
  /// [B, T, kv_heads * D] each, as forward() gives them to its context.
  LayerKeyValues keys_and_values(const Variable& x, RowContext&) const;
  /// Everything that keys_and_values() does not read.
  void freeze_behind_keys();

 private:
  /// x [B, T, heads * D], each head normalised by itself (where the family does so) and turned.
  Variable prepared(const Variable& x, int64_t heads, const NormLayer*,
                    const Tensor& positions) const;

  int64_t layer_;
  AttentionSpec spec_;  ///< without what changes from call to call
  int64_t head_dim_;
  double dropout_;
  Tensor inverse_frequencies_;  ///< f64 [head_dim / 2]; undefined: no rotary positions
  Linear *qkv_ = nullptr, *query_ = nullptr, *key_ = nullptr, *value_ = nullptr, *out_;
  NormLayer *query_norm_ = nullptr, *key_norm_ = nullptr;
};

class Mlp final : public Module {
 public:
  Mlp(const TransformerShape&, const Build&);
  Variable forward(const Variable& x) const;

 private:
  Unary activation_;
  double dropout_;
  Linear *gate_ = nullptr, *up_, *down_;
};

class TransformerBlock final : public Module {
 public:
  TransformerBlock(const TransformerShape&, int64_t layer, const Build&);
  /// x [B, T, C] -> [B, T, C], or the wanted rows alone. The sum between attention and MLP is made
  /// inside the norm that follows it; the one at the block's end is not, so that a block is one
  /// function of x, the same to the bit whether it is rematerialised or not.
  Variable forward(const Variable& x, RowContext&, bool only_wanted = false) const;
  LayerKeyValues keys_and_values(const Variable& x, RowContext&) const;
  void freeze_behind_keys();

 private:
  double dropout_;
  NormLayer *attention_norm_, *mlp_norm_;
  NormLayer *attention_post_norm_ = nullptr, *mlp_post_norm_ = nullptr;
  SelfAttention* attention_;
  Mlp* mlp_;
};

/// All blocks and the last norm: a transformer without tokens at either end.
class BlockStack final : public Module {
 public:
  BlockStack(const TransformerShape&, const Build&);
  /// x [B, T, C] -> final hidden states [B, T, C], of the rows that the context wants. `memory` (may
  /// be null) acts between the blocks.
  Variable forward(Variable x, RowContext&, MemoryModule* memory = nullptr,
                   MemoryState* state = nullptr) const;
  /// The keys and values that every layer makes of the rows; what lies behind the last layer's is
  /// not computed.
  KeyValues keys_and_values(Variable x, RowContext&) const;
  /// Freezes what keys_and_values() does not read: most of the last block, and the last norm.
  void freeze_behind_keys();
  Module& block(int64_t i) const { return *blocks_.at(size_t(i)); }
  Module& final_norm() const { return *final_norm_; }
  /// Floating-point operations for one row; `keys`: how many it sees in such a layer, on average.
  double forward_flops_per_row(const std::function<double(const LayerShape&)>& keys) const;
  /// Those that a row is spared whose final state is not wanted, and which would see so many keys.
  double unwanted_row_flops(double keys) const;

 private:
  /// Block i, and `memory` (may be null) before and behind it.
  Variable layer(int64_t i, Variable x, RowContext&, MemoryModule* memory, MemoryState*) const;
  /// The same, computed again in backward where the shape and the context allow.
  Variable through_layer(int64_t i, const Variable& x, RowContext&, MemoryModule* memory = nullptr,
                         MemoryState* state = nullptr) const;

  TransformerShape shape_;
  std::vector<TransformerBlock*> blocks_;
  NormLayer* final_norm_;
};

class Transformer : public LanguageModel {
 public:
  Transformer(const TransformerShape&, const Build&);
  /// A family's options: what its shape() says.
  template <class Options>
  requires requires(const Options& o) { TransformerShape(o.shape()); }
  Transformer(const Options& o, const Build& b) : Transformer(o.shape(), b) {}
  int64_t vocabulary_size() const override { return shape_.vocabulary; }
  int64_t block_size() const override { return shape_.block_size; }
  Variable hidden(const Tensor& tokens, SequenceState* state) override;
  const Variable& head() const override { return head_; }
  double logit_softcap() const override { return shape_.logit_softcap; }
  bool incremental() const override { return !memory_ || memory_->incremental(); }
  bool carries_memory() const override { return memory_ && memory_->carries_memory(); }
  MemoryState initial_memory(int64_t batch) const override {
    return memory_ ? memory_->initial(batch, embedding_.dtype(), embedding_.device())
                   : MemoryState();
  }
  double forward_flops_per_token(int64_t length) const override;
  const TransformerShape& shape() const { return shape_; }
  bool has_memory() const { return memory_ != nullptr; }
  /// Null: it has none.
  const MemoryModule* memory() const { return memory_; }

  // ---- for rows that are no tokens of a plain text (layers/coprocessor); no memory, no dropout --
  /// tokens i32 [B, T] -> [B, T, C], scaled as the family does, without learned positions.
  Variable token_rows(const Tensor& tokens) const;
  /// x [B, T, C] with learned positions (i32 [B, T] or [T]) added, where the family has such.
  Variable placed(const Variable& x, const Tensor& positions) const;
  /// Placed rows -> final hidden states.
  const BlockStack& blocks() const { return *blocks_; }
  /// Rows drawn from the embedding table, scaled: where learned input rows may begin. [count, C].
  Tensor typical_rows(int64_t count, Generator&) const;
  /// The mean of the embedding table's rows, scaled: where a new vocabulary row may begin. [1, C].
  Tensor mean_row() const;

 private:
  TransformerShape shape_;
  Variable embedding_, positions_, head_;
  BlockStack* blocks_;
  MemoryModule* memory_ = nullptr;
};

}  // namespace reverie
