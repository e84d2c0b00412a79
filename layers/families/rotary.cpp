#include "layers/families/rotary.h"

#include <algorithm>
#include <numbers>

#include "autograd/ops/attention.h"
#include "core/error.h"
#include "layers/memory/memory_module.h"

namespace reverie {

void RopeScaling::fields(Fields& f) {
  f.text("type", type, {"none", "linear", "llama3"},
         "linear: all angles divided by factor; llama3: the slow ones");
  f.number("factor", factor, {1, 1e6}, "factor by which texts become longer");
  f.number("low_freq_factor", low_freq_factor, {1e-6, 1e6},
           "for llama3: angles that turn less often than this within original_block_size are "
           "divided by factor");
  f.number("high_freq_factor", high_freq_factor, {1e-6, 1e6},
           "for llama3: angles that turn more often than this are unchanged; above "
           "low_freq_factor");
  f.integer("original_block_size", original_block_size, {1, int64_t(1) << 24},
            "for llama3: longest sequence before stretching, in tokens");
}

std::vector<double> inverse_frequencies(int64_t head_dim, double base, const RopeScaling& scaling) {
  const bool llama3 = scaling.type == "llama3";
  if (llama3 && !(scaling.high_freq_factor > scaling.low_freq_factor))
    throw ConfigError(
        fmt::format("rope_scaling: high_freq_factor {} is not above low_freq_factor {}",
                    scaling.high_freq_factor, scaling.low_freq_factor));
  std::vector<double> out = rope_frequencies(head_dim, base).to_vector();
  for (double& frequency : out) {
    double keep = 1;  // share that is not divided by the factor
    if (scaling.type == "linear") keep = 0;
    if (llama3) {
      const double turns = double(scaling.original_block_size) * frequency / (2 * std::numbers::pi);
      keep = std::clamp(
          (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor),
          0.0, 1.0);
    }
    if (scaling.type != "none") frequency *= keep + (1 - keep) / scaling.factor;
  }
  return out;
}

void RotaryOptions::fields(Fields& f) {
  f.integer("vocab_size", vocab_size, {0, int64_t(1) << 31}, "vocabulary size; 0: the data's");
  f.integer("block_size", block_size, {1, int64_t(1) << 24}, "longest sequence, in tokens");
  f.integer("n_layer", n_layer, {1, 1000}, "number of blocks");
  f.integer("n_head", n_head, {1, 1024}, "attention heads");
  f.integer("n_embd", n_embd, {1, 1 << 20}, "width of the residual stream");
  f.integer_or_auto("n_kv_head", n_kv_head, {1, 1024},
                    "key/value heads, shared by groups of query heads; auto: n_head");
  f.integer_or_auto("head_dim", head_dim, {2, 1 << 16},
                    "width of an attention head, even; auto: n_embd / n_head");
  f.integer_or_auto("n_hidden", n_hidden, kPositive,
                    "width of the gated MLP; auto: 8/3 n_embd, rounded up to a multiple of 16");
  f.number("rope_theta", rope_theta, {1, 1e9}, "base of the rotary angles");
  f.number("rms_norm_eps", rms_norm_eps, {1e-12, 1}, "added to the mean square");
  f.boolean("tie_weights", tie_weights, "use the embedding table as output projection");
  f.number("dropout", dropout, {0, 0.99},
           "dropout of embeddings, attention weights and residual "
           "branches");
  f.boolean("rematerialize", rematerialize,
            "recompute blocks, and the memory module at each, in the backward pass instead of "
            "keeping their activations");
  f.component("memory", memory, MemoryRegistry::instance(), true,
              "a memory module inside the model");
  const int64_t kv = n_kv_head.value_or(n_head), dim = head_dim.value_or(n_embd / n_head);
  f.rule(head_dim || n_embd % n_head == 0,
         fmt::format("n_embd {} is not a multiple of n_head {}", n_embd, n_head));
  f.rule(n_head % kv == 0, fmt::format("n_head {} is not a multiple of n_kv_head {}", n_head, kv));
  f.rule(dim % 2 == 0, fmt::format("rotary positions turn pairs: {} is {}, which is odd",
                                   head_dim ? "head_dim" : "n_embd / n_head", dim));
}

TransformerShape RotaryOptions::rotary_shape() const {
  const int64_t kv = n_kv_head.value_or(n_head), dim = head_dim.value_or(n_embd / n_head);
  TransformerShape s;
  s.vocabulary = vocab_size;
  s.block_size = block_size;
  s.layers = n_layer;
  s.heads = n_head;
  s.kv_heads = kv;
  s.head_dim = dim;
  s.features = n_embd;
  s.hidden = n_hidden.value_or((8 * n_embd / 3 + 15) / 16 * 16);
  s.per_layer.assign(size_t(n_layer), {0, inverse_frequencies(dim, rope_theta, {})});
  s.norm = Norm::rms;
  s.norm_eps = rms_norm_eps;
  s.activation = Unary::silu;
  s.tied = tie_weights;
  s.dropout = dropout;
  s.rematerialize = rematerialize;
  s.memory = memory;
  s.names.root = "model";
  s.names.embedding = "embed_tokens";
  s.names.blocks = "layers";
  s.names.final_norm = "norm";
  s.names.head = "lm_head";
  s.names.attention_norm = "input_layernorm";
  s.names.attention = "self_attn";
  s.names.query = "q_proj";
  s.names.key = "k_proj";
  s.names.value = "v_proj";
  s.names.attention_out = "o_proj";
  s.names.mlp_norm = "post_attention_layernorm";
  s.names.mlp = "mlp";
  s.names.gate = "gate_proj";
  s.names.up = "up_proj";
  s.names.down = "down_proj";
  return s;
}

void RotaryOptions::alternate(TransformerShape& s, int64_t window, int64_t global_every,
                              const std::vector<double>& local,
                              const std::vector<double>& global) const {
  for (int64_t i = 0; i < s.layers; ++i) {
    const bool sees_all = (i + 1) % global_every == 0;
    s.per_layer[size_t(i)] = {sees_all ? 0 : window, sees_all ? global : local};
  }
}

}  // namespace reverie
