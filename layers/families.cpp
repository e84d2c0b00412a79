// The families: which options a config may give, and the shape they mean.

#include "core/error.h"
#include "layers/transformer.h"

namespace reverie {
namespace {

void check_heads(int64_t features, int64_t heads, int64_t kv_heads, bool rope) {
  if (features % heads != 0)
    throw ConfigError(fmt::format("n_embd {} is not a multiple of n_head {}", features, heads));
  if (heads % kv_heads != 0)
    throw ConfigError(fmt::format("n_head {} is not a multiple of n_kv_head {}", heads, kv_heads));
  if (rope && features / heads % 2 != 0)
    throw ConfigError(fmt::format(
        "rotary positions turn pairs: n_embd / n_head is {}, which is odd", features / heads));
}

template <class Options>
void common_fields(Options& o, Fields& f) {
  f.integer("vocab_size", o.vocab_size, {0, int64_t(1) << 31},
            "tokens known to the model; 0: taken from the data");
  f.integer("block_size", o.block_size, {1, int64_t(1) << 24}, "longest sequence, in tokens");
  f.integer("n_layer", o.n_layer, {1, 1000}, "number of blocks");
  f.integer("n_head", o.n_head, {1, 1024}, "attention heads; divides n_embd");
  f.integer("n_embd", o.n_embd, {1, 1 << 20}, "width of the residual stream");
}

const bool gpt2_registered = ModelRegistry::instance().add<Transformer, Gpt2Options>(
    "gpt2", "GPT-2 / nanoGPT shape: pre-LN, learned positions, tied head");
const bool llama_registered = ModelRegistry::instance().add<Transformer, LlamaOptions>(
    "llama", "Llama shape: RMSNorm, RoPE, grouped queries, SwiGLU");

}  // namespace

void Gpt2Options::fields(Fields& f) {
  common_fields(*this, f);
  f.integer_or_auto("n_hidden", n_hidden, kPositive, "width of the MLP; auto: 4 n_embd");
  f.number("dropout", dropout, {0, 0.99}, "of embeddings, attention weights and residual branches");
  f.boolean("bias", bias, "biases in linear and norm layers (GPT-2: true, nanoGPT: false)");
  f.text("activation", activation, {"gelu", "gelu_tanh"},
         "gelu: exact (nanoGPT); gelu_tanh: GPT-2's approximation");
  f.number("layer_norm_eps", layer_norm_eps, {1e-12, 1}, "added to the variance");
  f.boolean("rematerialize", rematerialize,
            "compute blocks again in backward instead of keeping their activations");
  f.component("memory", memory, MemoryRegistry::instance(), true,
              "a memory module inside the model");
}
TransformerShape Gpt2Options::shape() const {
  check_heads(n_embd, n_head, n_head, false);
  TransformerShape s;
  s.vocabulary = vocab_size;
  s.block_size = block_size;
  s.layers = n_layer;
  s.heads = s.kv_heads = n_head;
  s.features = n_embd;
  s.hidden = n_hidden.value_or(4 * n_embd);
  s.norm_eps = layer_norm_eps;
  s.activation = activation == "gelu" ? Unary::gelu : Unary::gelu_tanh;
  s.bias = bias;
  s.dropout = dropout;
  s.rematerialize = rematerialize;
  s.layout = WeightLayout::in_out;
  s.memory = memory;
  s.names = {.root = "transformer",
             .embedding = "wte",
             .positions = "wpe",
             .blocks = "h",
             .final_norm = "ln_f",
             .head = "lm_head",
             .attention_norm = "ln_1",
             .attention = "attn",
             .mlp_norm = "ln_2",
             .mlp = "mlp",
             .query = "",
             .key = "",
             .value = "",
             .qkv = "c_attn",
             .attention_out = "c_proj",
             .gate = "",
             .up = "c_fc",
             .down = "c_proj"};
  return s;
}

void LlamaOptions::fields(Fields& f) {
  common_fields(*this, f);
  f.integer_or_auto("n_kv_head", n_kv_head, {1, 1024},
                    "key/value heads, shared by groups of query heads; auto: n_head");
  f.integer_or_auto("n_hidden", n_hidden, kPositive,
                    "width of the gated MLP; auto: 8/3 n_embd, rounded up to a multiple of 16");
  f.number("rope_theta", rope_theta, {1, 1e9}, "base of the rotary angles");
  f.number("rms_norm_eps", rms_norm_eps, {1e-12, 1}, "added to the mean square");
  f.boolean("tie_weights", tie_weights, "use the embedding table as output projection");
  f.number("dropout", dropout, {0, 0.99}, "of embeddings, attention weights and residual branches");
  f.boolean("rematerialize", rematerialize,
            "compute blocks again in backward instead of keeping their activations");
  f.component("memory", memory, MemoryRegistry::instance(), true,
              "a memory module inside the model");
}
TransformerShape LlamaOptions::shape() const {
  const int64_t kv = n_kv_head.value_or(n_head);
  check_heads(n_embd, n_head, kv, true);
  TransformerShape s;
  s.vocabulary = vocab_size;
  s.block_size = block_size;
  s.layers = n_layer;
  s.heads = n_head;
  s.kv_heads = kv;
  s.features = n_embd;
  s.hidden = n_hidden.value_or((8 * n_embd / 3 + 15) / 16 * 16);
  s.norm = Norm::rms;
  s.norm_eps = rms_norm_eps;
  s.activation = Unary::silu;
  s.gated = true;
  s.rope_base = rope_theta;
  s.tied = tie_weights;
  s.packed = false;
  s.dropout = dropout;
  s.rematerialize = rematerialize;
  s.memory = memory;
  s.names = {.root = "model",
             .embedding = "embed_tokens",
             .positions = "",
             .blocks = "layers",
             .final_norm = "norm",
             .head = "lm_head",
             .attention_norm = "input_layernorm",
             .attention = "self_attn",
             .mlp_norm = "post_attention_layernorm",
             .mlp = "mlp",
             .query = "q_proj",
             .key = "k_proj",
             .value = "v_proj",
             .qkv = "",
             .attention_out = "o_proj",
             .gate = "gate_proj",
             .up = "up_proj",
             .down = "down_proj"};
  return s;
}

}  // namespace reverie
