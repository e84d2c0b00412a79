#include "layers/transformer.h"

#include <cmath>
#include <initializer_list>

#include "autograd/ops/embedding.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "autograd/rematerialize.h"
#include "core/compact_weights.h"
#include "layers/memory/repeated_state.h"

namespace reverie {
// ---- attention -----------------------------------------------------------------
SelfAttention::SelfAttention(const TransformerShape& s, int64_t layer, const Build& build)
    : layer_(layer), head_dim_(s.head_dim), dropout_(s.dropout) {
  const LayerShape& own = s.per_layer.at(size_t(layer));
  spec_.heads = s.heads;
  spec_.kv_heads = s.kv_heads;
  spec_.scale = s.attention_scale;
  spec_.softcap = s.attention_softcap;
  spec_.window = own.window;
  if (!own.inverse_frequencies.empty())
    inverse_frequencies_ =
        Tensor::from<double>({s.head_dim / 2}, own.inverse_frequencies).to(build.device);
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
  return inverse_frequencies_ ? rope(y, heads, positions.to(y.device()), inverse_frequencies_) : y;
}

Variable SelfAttention::forward(const Variable& x, RowContext& context, bool only_wanted) const {
  AttentionSpec spec = spec_;
  if (training()) spec.dropout = dropout_;
  if (qkv_ && !query_norm_ && !inverse_frequencies_ && context.plain())
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
  q = prepared(q, spec.heads, query_norm_, context.positions());
  k = prepared(k, spec.kv_heads, key_norm_, context.positions());
  return out_->forward(only_wanted ? context.attend_wanted(layer_, q, k, v, spec)
                                   : context.attend(layer_, q, k, v, spec));
}

LayerKeyValues SelfAttention::keys_and_values(const Variable& x, RowContext& context) const {
  LayerKeyValues made;
  if (qkv_) {
    const Variable qkv = qkv_->forward(x);
    const int64_t queries = spec_.heads * head_dim_, keys = spec_.kv_heads * head_dim_;
    made.key = slice(qkv, 2, queries, queries + keys);
    made.value = slice(qkv, 2, queries + keys, queries + 2 * keys);
  } else {
    made.key = key_->forward(x);
    made.value = value_->forward(x);
  }
  made.key = prepared(made.key, spec_.kv_heads, key_norm_, context.positions());
  return made;
}
void SelfAttention::freeze_behind_keys() {
  for (Module* m : std::initializer_list<Module*>{query_, query_norm_, out_})
    if (m) m->freeze();
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
                              : up_->forward(x, activation_, ReadBy::matmul));
}

TransformerBlock::TransformerBlock(const TransformerShape& s, int64_t layer, const Build& build)
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
Variable TransformerBlock::forward(const Variable& x, RowContext& context, bool only_wanted) const {
  const double p = training() ? dropout_ : 0;
  Variable mixed =
      attention_->forward(attention_norm_->forward(x, ReadBy::matmul), context, only_wanted);
  if (attention_post_norm_) mixed = attention_post_norm_->forward(mixed);
  const ResidualNorm after =
      mlp_norm_->forward(dropout(mixed, p), only_wanted ? context.wanted(x) : x, ReadBy::matmul);
  Variable changed = mlp_->forward(after.normed);
  if (mlp_post_norm_) changed = mlp_post_norm_->forward(changed);
  return add(after.sum, dropout(changed, p));
}

LayerKeyValues TransformerBlock::keys_and_values(const Variable& x, RowContext& context) const {
  return attention_->keys_and_values(attention_norm_->forward(x, ReadBy::matmul), context);
}
void TransformerBlock::freeze_behind_keys() {
  attention_->freeze_behind_keys();
  for (Module* m :
       std::initializer_list<Module*>{attention_post_norm_, mlp_norm_, mlp_, mlp_post_norm_})
    if (m) m->freeze();
}

// ---- stack -----------------------------------------------------------------------
BlockStack::BlockStack(const TransformerShape& s, const Build& build) : shape_(s) {
  const auto name = [&](const std::string& local) { return s.names.root + "." + local; };
  for (int64_t i = 0; i < s.layers; ++i)
    blocks_.push_back(
        &child<TransformerBlock>(name(s.names.blocks) + "." + std::to_string(i), s, i, build));
  final_norm_ =
      &child<NormLayer>(name(s.names.final_norm), s.norm, s.features, s.bias, s.norm_eps, build);
}

Variable BlockStack::layer(int64_t i, Variable x, RowContext& context, MemoryModule* memory,
                           MemoryState* state) const {
  const bool only_wanted = size_t(i) + 1 == blocks_.size();
  if (memory) x = memory->before_block({i, x}, *state);
  x = blocks_[size_t(i)]->forward(x, context, only_wanted);
  return memory ? memory->after_block({i, x}, *state) : x;
}

Variable BlockStack::through_layer(int64_t i, const Variable& x, RowContext& context,
                                   MemoryModule* memory, MemoryState* state) const {
  RepeatedLayer repeated;
  if (shape_.rematerialize && grad_enabled()) repeated = context.repeated(i);
  if (!repeated.context) return layer(i, x, context, memory, state);
  using Variables = std::vector<Variable>;
  Variables inputs = {x};
  inputs.insert(inputs.end(), repeated.reads.begin(), repeated.reads.end());
  const size_t rows_end = inputs.size();
  const MemoryState before = memory ? *state : MemoryState();
  const Variables held = RepeatedState::values(before);
  inputs.insert(inputs.end(), held.begin(), held.end());
  const auto remembered = std::make_shared<RepeatedState>(before);
  // Results are the rows, `kept` values for the context, and those that the memory changed.
  const auto kept = std::make_shared<size_t>(0);
  const Variables made = rematerialize_all(
      [this, i, memory, rows_end, remembered, kept,
       repeat = repeated.context](const Variables& in) {
        const auto rows = repeat({in.begin() + 1, in.begin() + std::ptrdiff_t(rows_end)});
        const std::span<const Variable> values = std::span(in).subspan(rows_end);
        MemoryState own = remembered->begun(values);
        Variables results = {layer(i, in[0], *rows, memory, &own)};
        for (const Variable& v : rows->left()) results.push_back(v);
        *kept = results.size() - 1;
        remembered->append_changes(own, values, results);
        return results;
      },
      inputs);
  context.keep(i, {made.begin() + 1, made.begin() + 1 + std::ptrdiff_t(*kept)});
  if (memory) *state = remembered->ended(held, made);
  return made[0];
}

Variable BlockStack::forward(Variable x, RowContext& context, MemoryModule* memory,
                             MemoryState* state) const {
  for (int64_t i = 0; i < int64_t(blocks_.size()); ++i)
    x = through_layer(i, x, context, memory, state);
  return final_norm_->forward(x);
}

KeyValues BlockStack::keys_and_values(Variable x, RowContext& context) const {
  KeyValues made;
  RecordingContext rows(context, made);
  for (int64_t i = 0; i + 1 < int64_t(blocks_.size()); ++i) x = through_layer(i, x, rows);
  made.layers.push_back(blocks_.back()->keys_and_values(x, context));
  return made;
}
void BlockStack::freeze_behind_keys() {
  blocks_.back()->freeze_behind_keys();
  final_norm_->freeze();
}

double BlockStack::forward_flops_per_row(
    const std::function<double(const LayerShape&)>& keys) const {
  const auto& s = shape_;
  const double c = double(s.features), h = double(s.hidden), q = double(s.heads * s.head_dim),
               kv = double(s.kv_heads * s.head_dim);
  double total = 0;
  for (const LayerShape& layer : s.per_layer)
    total += 2 * c * (q + 2 * kv) + 2 * q * c + 2 * c * h * (s.names.gate.empty() ? 2 : 3) +
             4 * q * keys(layer);
  return total;
}

double BlockStack::unwanted_row_flops(double keys) const {
  const double c = double(shape_.features), h = double(shape_.hidden),
               q = double(shape_.heads * shape_.head_dim);
  return 4 * q * keys + 2 * q * c + 2 * c * h * (shape_.names.gate.empty() ? 2 : 3);
}

// ---- model -------------------------------------------------------------------------
Transformer::Transformer(const TransformerShape& s, const Build& build) : shape_(s) {
  const auto& n = s.names;
  auto name = [&](const std::string& local) { return n.root + "." + local; };
  auto table = [&](int64_t rows) { return build.weights({rows, s.features}, 0.02); };
  embedding_ = parameter(name(n.embedding) + ".weight", table(s.vocabulary));
  if (!n.positions.empty())
    positions_ = parameter(name(n.positions) + ".weight", table(s.block_size));
  blocks_ = &child<BlockStack>("", s, build);
  head_ = s.tied ? embedding_ : parameter(n.head + ".weight", table(s.vocabulary), ReadBy::matmul);
  if (s.memory.given()) {
    const MemorySite site{s.features, s.layers, build};
    memory_ = static_cast<MemoryModule*>(
        &adopt(name("memory"), MemoryRegistry::instance().make(s.memory, site)));
  }
}

Variable Transformer::hidden(const Tensor& tokens, SequenceState* state) {
  require(tokens.rank() == 2 && tokens.dtype() == DType::i32,
          "a model takes tokens i32 [B, T], got {}", tokens);
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
  if (cached) state->layers.resize(size_t(shape_.layers));
  MemoryState fresh;
  MemoryState* memory = state ? &state->memory : &fresh;
  if (memory_ && memory->values.empty() && memory->counters.empty())
    *memory = initial_memory(batch);

  Variable x = embedding(tokens.to(embedding_.device()), embedding_, positions_, position);
  if (shape_.embedding_scale != 1) x = scale(x, shape_.embedding_scale);
  x = dropout(x, training() ? shape_.dropout : 0);
  // Once a window: behind a cache that has begun they are known.
  Variable front;
  if (memory_ && (!cached || state->layers[0].length() == 0))
    front = memory_->rows_before(batch, *memory);
  if (front) x = concat({front, x}, 1);
  const int64_t rows_in_front = front ? front.size(1) : 0;
  if (cached) {
    CacheContext rows(*state, rows_in_front + time);
    x = blocks_->forward(x, rows, memory_, memory);
    state->rows_before += rows_in_front;
  } else {
    CausalContext rows(rows_in_front + time);
    x = blocks_->forward(x, rows, memory_, memory);
  }
  if (memory_) memory_->after_rows(x, *memory);
  if (state) state->position += time;
  return front ? slice(x, 1, rows_in_front, rows_in_front + time) : x;
}

Variable Transformer::token_rows(const Tensor& tokens) const {
  const Variable x = embedding(tokens.to(embedding_.device()), embedding_);
  return shape_.embedding_scale != 1 ? scale(x, shape_.embedding_scale) : x;
}
Variable Transformer::placed(const Variable& x, const Tensor& positions) const {
  if (!positions_) return x;
  const Tensor each = positions.rank() == 2 ? positions : positions.view({1, positions.size(0)});
  const Variable rows = embedding(each.to(positions_.device()), positions_);
  return add(x, each.size(0) == x.size(0) ? rows : expand(rows, 0, x.size(0)));
}
Tensor Transformer::typical_rows(int64_t count, Generator& random) const {
  NoGrad no_grad;
  Tensor ids = Tensor::empty({1, count}, DType::i32);
  for (int64_t i = 0; i < count; ++i)
    ids.mutable_data<int32_t>()[i] = int32_t(random.below(uint64_t(shape_.vocabulary)));
  return token_rows(ids).tensor().clone().view({count, shape_.features});
}

Tensor Transformer::mean_row() const {
  NoGrad no_grad;
  return scale(mean(Variable(widened(embedding_.tensor())), 0), shape_.embedding_scale)
      .tensor()
      .clone()
      .view({1, shape_.features});
}

double Transformer::forward_flops_per_token(int64_t length) const {
  const double n = double(length);
  // All keys before a token, up to the window, averaged over the text.
  const auto keys = [n](const LayerShape& layer) {
    const double w = layer.window > 0 ? std::min(double(layer.window), n) : n;
    return (w * (w + 1) / 2 + (n - w) * w) / n;
  };
  double total = 2 * double(shape_.features * shape_.vocabulary);
  total += blocks_->forward_flops_per_row(keys);
  if (memory_) total += double(shape_.layers) * memory_->flops_per_token();
  return total;
}

}  // namespace reverie
