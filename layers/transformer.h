#pragma once
// Decoder-only transformers, GPT-2 and Llama shaped, from the same blocks.

#include "core/config.h"
#include "layers/language_model.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {

// Everything that distinguishes one decoder-only family from another.
struct TransformerShape {
  int64_t vocabulary = 0, block_size = 0, layers = 0, heads = 0, kv_heads = 0, features = 0,
          hidden = 0;
  Norm norm = Norm::layer;
  double norm_eps = 1e-5;
  Unary activation = Unary::gelu;
  bool gated = false;    // activation(gate) * up instead of activation(up)
  double rope_base = 0;  // 0: learned positions
  bool bias = false;
  bool tied = true;    // the output projection is the embedding table
  bool packed = true;  // query, key and value from one projection (GPT-2's c_attn)
  double dropout = 0;
  bool rematerialize = false;
  WeightLayout layout = WeightLayout::out_in;
  // Parameter names, Hugging Face's.
  struct Names {
    std::string root, embedding, positions, blocks, final_norm, head;
    std::string attention_norm, attention, mlp_norm, mlp;
    std::string query, key, value, qkv, attention_out, gate, up, down;
  } names;
  Component memory;
};

struct Gpt2Options final : Fieldset {
  int64_t vocab_size = 0, block_size = 64, n_layer = 4, n_head = 4, n_embd = 128;
  std::optional<int64_t> n_hidden;
  double dropout = 0, layer_norm_eps = 1e-5;
  bool bias = false, rematerialize = false;
  std::string activation = "gelu";
  Component memory;
  void fields(Fields&) override;
  TransformerShape shape() const;
};

struct LlamaOptions final : Fieldset {
  int64_t vocab_size = 0, block_size = 64, n_layer = 4, n_head = 4, n_embd = 128;
  std::optional<int64_t> n_kv_head, n_hidden;
  double rope_theta = 10000, rms_norm_eps = 1e-5, dropout = 0;
  bool tie_weights = false, rematerialize = false;
  Component memory;
  void fields(Fields&) override;
  TransformerShape shape() const;
};

class SelfAttention final : public Module {
 public:
  SelfAttention(const TransformerShape&, const Build&);
  // x [B, T, C]; `cache` (may be null): appended to, and read instead of x alone.
  Variable forward(const Variable& x, KvCache* cache, int64_t position) const;

 private:
  Variable cached(const Variable& q, const Variable& k, const Variable& v, KvCache&,
                  int64_t position) const;
  int64_t heads_, kv_heads_;
  double rope_base_, dropout_;
  Linear *qkv_ = nullptr, *query_ = nullptr, *key_ = nullptr, *value_ = nullptr, *out_;
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
  TransformerBlock(const TransformerShape&, const Build&);
  // x [B, T, C] -> [B, T, C]. The sum between attention and MLP is made inside the norm that
  // follows it; the one at the block's end is not, so that a block is one function of x, the same
  // to the bit whether it is rematerialised or not.
  Variable forward(const Variable& x, KvCache*, int64_t position) const;

 private:
  double dropout_;
  NormLayer *attention_norm_, *mlp_norm_;
  SelfAttention* attention_;
  Mlp* mlp_;
};

class Transformer : public LanguageModel {
 public:
  Transformer(const TransformerShape&, const Build&);
  Transformer(const Gpt2Options& o, const Build& b) : Transformer(o.shape(), b) {}
  Transformer(const LlamaOptions& o, const Build& b) : Transformer(o.shape(), b) {}
  int64_t vocabulary_size() const override { return shape_.vocabulary; }
  int64_t block_size() const override { return shape_.block_size; }
  Variable hidden(const Tensor& tokens, SequenceState* state) override;
  const Variable& head() const override { return head_; }
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
