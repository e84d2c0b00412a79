#include "layers/transformer.h"

#include <cmath>

#include "autograd/ops/attention.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/shape.h"
#include "autograd/rematerialize.h"
#include "kernels/attention.h"

namespace reverie {

// ---- attention -----------------------------------------------------------------
SelfAttention::SelfAttention(const TransformerShape& s, const Build& build)
    : heads_(s.heads), kv_heads_(s.kv_heads), rope_base_(s.rope_base), dropout_(s.dropout) {
  const int64_t c = s.features, kv = c / s.heads * s.kv_heads;
  const LinearOptions plain{s.bias, s.layout, 0.02};
  if (s.packed) {
    qkv_ = &child<Linear>(s.names.qkv, c, c + 2 * kv, plain, build);
  } else {
    query_ = &child<Linear>(s.names.query, c, c, plain, build);
    key_ = &child<Linear>(s.names.key, c, kv, plain, build);
    value_ = &child<Linear>(s.names.value, c, kv, plain, build);
  }
  // Residual projections start smaller, by 1/sqrt(2 layers) (GPT-2).
  out_ = &child<Linear>(s.names.attention_out, c, c,
                        LinearOptions{s.bias, s.layout, 0.02 / std::sqrt(2.0 * double(s.layers))},
                        build);
}

Variable SelfAttention::forward(const Variable& x, KvCache* cache, int64_t position) const {
  AttentionSpec spec{heads_, kv_heads_};
  if (training()) spec.dropout = dropout_;
  if (qkv_ && rope_base_ == 0 && !cache)
    return out_->forward(packed_attention(qkv_->forward(x), spec));
  Variable q, k, v;
  if (qkv_) {
    const Variable qkv = qkv_->forward(x);
    const int64_t c = x.size(2), kv = c / heads_ * kv_heads_;
    q = slice(qkv, 2, 0, c);
    k = slice(qkv, 2, c, c + kv);
    v = slice(qkv, 2, c + kv, c + 2 * kv);
  } else {
    q = query_->forward(x);
    k = key_->forward(x);
    v = value_->forward(x);
  }
  if (rope_base_ != 0) {
    q = rope(q, heads_, rope_base_, position);
    k = rope(k, kv_heads_, rope_base_, position);
  }
  return out_->forward(cache ? cached(q, k, v, *cache, position) : attention(q, k, v, spec));
}

// Keys and values are read where they lie in the cache.
Variable SelfAttention::cached(const Variable& q, const Variable& k, const Variable& v,
                               KvCache& cache, int64_t position) const {
  require(!grad_enabled(), "a KV cache holds no gradients: decode under NoGrad");
  cache.append(k.tensor(), v.tensor());
  const int64_t batch = q.size(0), time = q.size(1), dim = q.size(2) / heads_,
                length = cache.length();
  auto kv_view = [&](const Tensor& rows) {  // [B, length, kv_heads * D] of a larger buffer -> [B,
                                            // length, kv_heads, D]
    const int64_t capacity = rows.strides()[0] / rows.strides()[1];
    return Tensor::over(rows.storage(), {batch, capacity, kv_heads_, dim}, rows.dtype(),
                        rows.offset())
        .slice(1, 0, length);
  };
  Tensor output = Tensor::empty({batch, time, heads_, dim}, q.dtype(), q.device());
  Tensor log_sum_exp = Tensor::empty({batch, heads_, time}, q.dtype(), q.device());
  AttentionOptions options;
  options.scale = 1 / std::sqrt(double(dim));
  options.first_position = position;
  kernel::attention_forward(q.device(),
                            {q.tensor().view({batch, time, heads_, dim}), kv_view(cache.key()),
                             kv_view(cache.value()), options, output, log_sum_exp});
  return Variable(output.view({batch, time, heads_ * dim}));
}

// ---- block -----------------------------------------------------------------------
Mlp::Mlp(const TransformerShape& s, const Build& build)
    : activation_(s.activation), dropout_(s.dropout) {
  const LinearOptions plain{s.bias, s.layout, 0.02};
  if (s.gated) gate_ = &child<Linear>(s.names.gate, s.features, s.hidden, plain, build);
  up_ = &child<Linear>(s.names.up, s.features, s.hidden, plain, build);
  down_ = &child<Linear>(s.names.down, s.hidden, s.features,
                         LinearOptions{s.bias, s.layout, 0.02 / std::sqrt(2.0 * double(s.layers))},
                         build);
}
Variable Mlp::forward(const Variable& x) const {
  return down_->forward(gate_ ? gated(activation_, gate_->forward(x), up_->forward(x))
                              : up_->forward(x, activation_));
}

TransformerBlock::TransformerBlock(const TransformerShape& s, const Build& build)
    : dropout_(s.dropout) {
  attention_norm_ =
      &child<NormLayer>(s.names.attention_norm, s.norm, s.features, s.bias, s.norm_eps, build);
  attention_ = &child<SelfAttention>(s.names.attention, s, build);
  mlp_norm_ = &child<NormLayer>(s.names.mlp_norm, s.norm, s.features, s.bias, s.norm_eps, build);
  mlp_ = &child<Mlp>(s.names.mlp, s, build);
}
Variable TransformerBlock::forward(const Variable& x, KvCache* cache, int64_t position) const {
  const double p = training() ? dropout_ : 0;
  const Variable mixed =
      dropout(attention_->forward(attention_norm_->forward(x), cache, position), p);
  const ResidualNorm after = mlp_norm_->forward(mixed, x);
  return add(after.sum, dropout(mlp_->forward(after.normed), p));
}

// ---- model -------------------------------------------------------------------------
Transformer::Transformer(const TransformerShape& s, const Build& build) : shape_(s) {
  const auto& n = s.names;
  auto name = [&](const std::string& local) { return n.root + "." + local; };
  auto table = [&](int64_t rows) {
    return build.random.normal({rows, s.features}, 0, 0.02, build.dtype).to(build.device);
  };
  embedding_ = parameter(name(n.embedding) + ".weight", table(s.vocabulary));
  if (s.rope_base == 0) positions_ = parameter(name(n.positions) + ".weight", table(s.block_size));
  for (int64_t i = 0; i < s.layers; ++i)
    blocks_.push_back(&child<TransformerBlock>(name(n.blocks) + "." + std::to_string(i), s, build));
  final_norm_ =
      &child<NormLayer>(name(n.final_norm), s.norm, s.features, s.bias, s.norm_eps, build);
  head_ = s.tied ? embedding_ : parameter(n.head + ".weight", table(s.vocabulary));
  if (s.memory.given()) {
    const MemorySite site{s.features, s.layers, build};
    memory_ = static_cast<MemoryModule*>(
        &adopt(name("memory"), MemoryRegistry::instance().make(s.memory, site)));
  }
}

Variable Transformer::hidden(const Tensor& tokens, SequenceState* state) {
  require(tokens.rank() == 2 && tokens.dtype() == DType::i32,
          "a model takes tokens i32 [B, T], got {}", tokens.str());
  const int64_t batch = tokens.size(0), time = tokens.size(1);
  const bool cached = state && state->use_cache;
  const int64_t position = cached ? state->position : 0;
  require(position + time <= shape_.block_size,
          "the sequence reaches {} tokens, the model's block_size is {}", position + time,
          shape_.block_size);
  if (cached && !incremental())
    throw UserError(
        "this model's memory reads whole blocks, so it cannot decode incrementally; run it over "
        "the whole prefix instead");
  if (cached) state->layers.resize(blocks_.size());
  MemoryState fresh;
  MemoryState* memory = state ? &state->memory : &fresh;
  if (memory_ && memory->values.empty() && memory->counters.empty())
    *memory = memory_->initial(batch, embedding_.dtype(), embedding_.device());

  Variable x = embedding(tokens.to(embedding_.device()), embedding_, positions_, position);
  x = dropout(x, training() ? shape_.dropout : 0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const TransformerBlock* block = blocks_[i];
    if (memory_) x = memory_->before_block({int64_t(i), x}, *memory);
    if (shape_.rematerialize && !cached)
      x = rematerialize(
          [block](const std::vector<Variable>& in) { return block->forward(in[0], nullptr, 0); },
          {x});
    else
      x = block->forward(x, cached ? &state->layers[i] : nullptr, position);
    if (memory_) x = memory_->after_block({int64_t(i), x}, *memory);
  }
  if (state) state->position += time;
  return final_norm_->forward(x);
}

double Transformer::forward_flops_per_token(int64_t length) const {
  const auto& s = shape_;
  const double c = double(s.features), kv = c / double(s.heads) * double(s.kv_heads),
               h = double(s.hidden);
  double layer = 2 * c * (c + 2 * kv) + 2 * c * c + 2 * c * h * (s.gated ? 3 : 2);
  layer += 4 * c * (double(length) + 1) / 2;  // scores and values over the average causal prefix
  if (memory_) layer += memory_->flops_per_token();
  return double(s.layers) * layer + 2 * c * double(s.vocabulary);
}

}  // namespace reverie
