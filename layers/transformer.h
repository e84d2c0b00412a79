#pragma once
// Decoder-only transformers of every family (layers/families) from the same blocks.

#include "autograd/ops/attention.h"
#include "layers/language_model.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"
#include "layers/transformer_shape.h"

namespace reverie {

class SelfAttention final : public Module {
 public:
  SelfAttention(const TransformerShape&, const LayerShape&, const Build&);
  // x [B, T, C]; `cache` (may be null): appended to, and read instead of x alone.
  Variable forward(const Variable& x, KvCache* cache, int64_t position) const;

 private:
  Variable cached(const Variable& q, const Variable& k, const Variable& v, KvCache&,
                  int64_t position) const;
  // x [B, T, heads * D], each head normalised by itself (where the family does so) and turned.
  Variable prepared(const Variable& x, int64_t heads, const NormLayer*,
                    const Tensor& positions) const;

  AttentionSpec spec_;  // without what changes from call to call
  int64_t head_dim_;
  double dropout_;
  Tensor inverse_frequencies_;  // f64 [head_dim / 2]; undefined: no rotary positions
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
  TransformerBlock(const TransformerShape&, const LayerShape&, const Build&);
  // x [B, T, C] -> [B, T, C]. The sum between attention and MLP is made inside the norm that
  // follows it; the one at the block's end is not, so that a block is one function of x, the same
  // to the bit whether it is rematerialised or not.
  Variable forward(const Variable& x, KvCache*, int64_t position) const;

 private:
  double dropout_;
  NormLayer *attention_norm_, *mlp_norm_;
  NormLayer *attention_post_norm_ = nullptr, *mlp_post_norm_ = nullptr;
  SelfAttention* attention_;
  Mlp* mlp_;
};

class Transformer : public LanguageModel {
 public:
  Transformer(const TransformerShape&, const Build&);
  // A family's options: what its shape() says.
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
  double forward_flops_per_token(int64_t length) const override;
  const TransformerShape& shape() const { return shape_; }

 private:
  TransformerShape shape_;
  Variable embedding_, positions_, head_;
  std::vector<TransformerBlock*> blocks_;
  NormLayer* final_norm_;
  MemoryModule* memory_ = nullptr;
};

}  // namespace reverie
