// GPT-2 and nanoGPT.

#include "core/error.h"
#include "layers/transformer.h"

namespace reverie {
namespace {

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

void Gpt2Options::fields(Fields& f) {
  f.integer("vocab_size", vocab_size, {0, int64_t(1) << 31},
            "tokens known to the model; 0: taken from the data");
  f.integer("block_size", block_size, {1, int64_t(1) << 24}, "longest sequence, in tokens");
  f.integer("n_layer", n_layer, {1, 1000}, "number of blocks");
  f.integer("n_head", n_head, {1, 1024}, "attention heads; divides n_embd");
  f.integer("n_embd", n_embd, {1, 1 << 20}, "width of the residual stream");
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
  f.rule(n_embd % n_head == 0,
         fmt::format("n_embd {} is not a multiple of n_head {}", n_embd, n_head));
}

TransformerShape Gpt2Options::shape() const {
  TransformerShape s;
  s.vocabulary = vocab_size;
  s.block_size = block_size;
  s.layers = n_layer;
  s.heads = s.kv_heads = n_head;
  s.head_dim = n_embd / n_head;
  s.features = n_embd;
  s.hidden = n_hidden.value_or(4 * n_embd);
  s.per_layer.resize(size_t(n_layer));
  s.norm_eps = layer_norm_eps;
  s.activation = activation == "gelu" ? Unary::gelu : Unary::gelu_tanh;
  s.bias = bias;
  s.dropout = dropout;
  s.rematerialize = rematerialize;
  s.layout = WeightLayout::in_out;
  s.memory = memory;
  s.names.root = "transformer";
  s.names.embedding = "wte";
  s.names.positions = "wpe";
  s.names.blocks = std::string("h");  // g++ 12 warns of nothing at the plain literal
  s.names.final_norm = "ln_f";
  s.names.head = "lm_head";
  s.names.attention_norm = "ln_1";
  s.names.attention = "attn";
  s.names.qkv = "c_attn";
  s.names.attention_out = "c_proj";
  s.names.mlp_norm = "ln_2";
  s.names.mlp = "mlp";
  s.names.up = "c_fc";
  s.names.down = "c_proj";
  return s;
}

const bool registered = ModelRegistry::instance().add<Transformer, Gpt2Options>(
    "gpt2", "GPT-2 / nanoGPT shape: pre-LN, learned positions, tied head");

}  // namespace
}  // namespace reverie
