#include "layers/transformer.h"

#include <cmath>
#include <numeric>

#include "autograd/ops/embedding.h"
#include "autograd/ops/shape.h"
#include "autograd/rematerialize.h"
#include "kernels/attention.h"

namespace reverie {
namespace {

// i32 [count]: first, first + 1, ...
Tensor counting(int64_t first, int64_t count) {
  Tensor t = Tensor::empty({count}, DType::i32);
  std::iota(t.mutable_data<int32_t>(), t.mutable_data<int32_t>() + count, int32_t(first));
  return t;
}

}  // namespace

// ---- attention -----------------------------------------------------------------
SelfAttention::SelfAttention(const TransformerShape& s, const LayerShape& layer, const Build& build)
    : head_dim_(s.head_dim), dropout_(s.dropout) {
  spec_.heads = s.heads;
  spec_.kv_heads = s.kv_heads;
  spec_.scale = s.attention_scale;
  spec_.softcap = s.attention_softcap;
  spec_.window = layer.window;
  if (!layer.inverse_frequencies.empty())
    inverse_frequencies_ =
        Tensor::from<double>({s.head_dim / 2}, layer.inverse_frequencies).to(build.device);
  const int64_t c = s.features, q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  const auto& n = s.names;
  const LinearOptions plain{s.bias || s.query_key_value_bias, s.layout, 0.02};
  if (!n.qkv.empty()) {
    qkv_ = &child<Linear>(n.qkv, c, q + 2 * kv, plain, build);
  } else {
    query_ = &child<Linear>(n.query, c, q, plain, build);
    key_ = &child<Linear>(n.key, c, kv, plain, build);
    value_ = &child<Linear>(n.value, c, kv, plain, build);
  }
  if (!n.query_norm.empty()) {
    query_norm_ = &child<NormLayer>(n.query_norm, s.norm, s.head_dim, s.bias, s.norm_eps, build);
    key_norm_ = &child<NormLayer>(n.key_norm, s.norm, s.head_dim, s.bias, s.norm_eps, build);
  }
  // Residual projections start smaller, by 1/sqrt(2 layers) (GPT-2).
  out_ = &child<Linear>(n.attention_out, q, c,
                        LinearOptions{s.bias, s.layout, 0.02 / std::sqrt(2.0 * double(s.layers))},
                        build);
}

Variable SelfAttention::prepared(const Variable& x, int64_t heads, const NormLayer* norm,
                                 const Tensor& positions) const {
  Variable y = x;
  if (norm) {
    const Shape shape = x.shape();
    y = reshape(norm->forward(reshape(x, {shape[0], shape[1], heads, head_dim_})), shape);
  }
  return inverse_frequencies_ ? rope(y, heads, positions, inverse_frequencies_) : y;
}

Variable SelfAttention::forward(const Variable& x, KvCache* cache, int64_t position) const {
  AttentionSpec spec = spec_;
  if (training()) spec.dropout = dropout_;
  if (qkv_ && !query_norm_ && !inverse_frequencies_ && !cache)
    return out_->forward(packed_attention(qkv_->forward(x), spec));
  Variable q, k, v;
  if (qkv_) {
    const Variable qkv = qkv_->forward(x);
    const int64_t queries = spec.heads * head_dim_, keys = spec.kv_heads * head_dim_;
    q = slice(qkv, 2, 0, queries);
    k = slice(qkv, 2, queries, queries + keys);
    v = slice(qkv, 2, queries + keys, queries + 2 * keys);
  } else {
    q = query_->forward(x);
    k = key_->forward(x);
    v = value_->forward(x);
  }
  const Tensor positions = inverse_frequencies_ ? counting(position, x.size(1)) : Tensor();
  q = prepared(q, spec.heads, query_norm_, positions);
  k = prepared(k, spec.kv_heads, key_norm_, positions);
  return out_->forward(cache ? cached(q, k, v, *cache, position) : attention(q, k, v, spec));
}

// Keys and values are read where they lie in the cache.
Variable SelfAttention::cached(const Variable& q, const Variable& k, const Variable& v,
                               KvCache& cache, int64_t position) const {
  require(!grad_enabled(), "a KV cache holds no gradients: decode under NoGrad");
  cache.append(k.tensor(), v.tensor());
  const int64_t batch = q.size(0), time = q.size(1), heads = spec_.heads, dim = head_dim_,
                length = cache.length();
  auto kv_view = [&](const Tensor& rows) {  // [B, length, kv_heads * D] of a larger buffer -> [B,
                                            // length, kv_heads, D]
    const int64_t capacity = rows.strides()[0] / rows.strides()[1];
    return Tensor::over(rows.storage(), {batch, capacity, spec_.kv_heads, dim}, rows.dtype(),
                        rows.offset())
        .slice(1, 0, length);
  };
  Tensor output = Tensor::empty({batch, time, heads, dim}, q.dtype(), q.device());
  Tensor log_sum_exp = Tensor::empty({batch, heads, time}, q.dtype(), q.device());
  AttentionOptions options;
  options.scale = spec_.scale != 0 ? spec_.scale : 1 / std::sqrt(double(dim));
  options.softcap = spec_.softcap;
  options.window = spec_.window;
  options.first_position = position;
  kernel::attention_forward(q.device(),
                            {q.tensor().view({batch, time, heads, dim}), kv_view(cache.key()),
                             kv_view(cache.value()), options, output, log_sum_exp});
  return Variable(output.view({batch, time, heads * dim}));
}

// ---- block -----------------------------------------------------------------------
Mlp::Mlp(const TransformerShape& s, const Build& build)
    : activation_(s.activation), dropout_(s.dropout) {
  const LinearOptions plain{s.bias, s.layout, 0.02};
  if (!s.names.gate.empty())
    gate_ = &child<Linear>(s.names.gate, s.features, s.hidden, plain, build);
  up_ = &child<Linear>(s.names.up, s.features, s.hidden, plain, build);
  down_ = &child<Linear>(s.names.down, s.hidden, s.features,
                         LinearOptions{s.bias, s.layout, 0.02 / std::sqrt(2.0 * double(s.layers))},
                         build);
}
Variable Mlp::forward(const Variable& x) const {
  return down_->forward(gate_ ? gated(activation_, gate_->forward(x), up_->forward(x))
                              : up_->forward(x, activation_));
}

TransformerBlock::TransformerBlock(const TransformerShape& s, const LayerShape& layer,
                                   const Build& build)
    : dropout_(s.dropout) {
  const auto norm = [&](const std::string& name) {
    return name.empty() ? nullptr
                        : &child<NormLayer>(name, s.norm, s.features, s.bias, s.norm_eps, build);
  };
  attention_norm_ = norm(s.names.attention_norm);
  attention_ = &child<SelfAttention>(s.names.attention, s, layer, build);
  attention_post_norm_ = norm(s.names.attention_post_norm);
  mlp_norm_ = norm(s.names.mlp_norm);
  mlp_ = &child<Mlp>(s.names.mlp, s, build);
  mlp_post_norm_ = norm(s.names.mlp_post_norm);
}
Variable TransformerBlock::forward(const Variable& x, KvCache* cache, int64_t position) const {
  const double p = training() ? dropout_ : 0;
  Variable mixed = attention_->forward(attention_norm_->forward(x), cache, position);
  if (attention_post_norm_) mixed = attention_post_norm_->forward(mixed);
  const ResidualNorm after = mlp_norm_->forward(dropout(mixed, p), x);
  Variable changed = mlp_->forward(after.normed);
  if (mlp_post_norm_) changed = mlp_post_norm_->forward(changed);
  return add(after.sum, dropout(changed, p));
}

// ---- model -------------------------------------------------------------------------
Transformer::Transformer(const TransformerShape& s, const Build& build) : shape_(s) {
  const auto& n = s.names;
  auto name = [&](const std::string& local) { return n.root + "." + local; };
  auto table = [&](int64_t rows) { return build.weights({rows, s.features}, 0.02); };
  embedding_ = parameter(name(n.embedding) + ".weight", table(s.vocabulary));
  if (!n.positions.empty())
    positions_ = parameter(name(n.positions) + ".weight", table(s.block_size));
  for (int64_t i = 0; i < s.layers; ++i)
    blocks_.push_back(&child<TransformerBlock>(name(n.blocks) + "." + std::to_string(i), s,
                                               s.per_layer.at(size_t(i)), build));
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
  if (shape_.embedding_scale != 1) x = scale(x, shape_.embedding_scale);
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
  const double c = double(s.features), h = double(s.hidden), n = double(length),
               q = double(s.heads * s.head_dim), kv = double(s.kv_heads * s.head_dim);
  double total = 2 * c * double(s.vocabulary);
  for (const LayerShape& layer : s.per_layer) {
    total += 2 * c * (q + 2 * kv) + 2 * q * c + 2 * c * h * (s.names.gate.empty() ? 2 : 3);
    // Scores and values over the keys that a token sees on average: all before it, up to the
    // window.
    const double w = layer.window > 0 ? std::min(double(layer.window), n) : n;
    total += 4 * q * (w * (w + 1) / 2 + (n - w) * w) / n;
    if (memory_) total += memory_->flops_per_token();
  }
  return total;
}

}  // namespace reverie
