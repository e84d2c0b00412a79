// GPT-2 and nanoGPT.

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "layers/families/family.h"

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
  f.integer("vocab_size", vocab_size, {0, int64_t(1) << 31}, "vocabulary size; 0: the data's");
  f.integer("block_size", block_size, {1, int64_t(1) << 24}, "longest sequence, in tokens");
  f.integer("n_layer", n_layer, {1, 1000}, "number of blocks");
  f.integer("n_head", n_head, {1, 1024}, "attention heads; divides n_embd");
  f.integer("n_embd", n_embd, {1, 1 << 20}, "width of the residual stream");
  f.integer_or_auto("n_hidden", n_hidden, kPositive, "width of the MLP; auto: 4 n_embd");
  f.number("dropout", dropout, {0, 0.99},
           "dropout of embeddings, attention weights and residual "
           "branches");
  f.boolean("bias", bias, "biases in linear and norm layers (GPT-2: true, nanoGPT: false)");
  f.text("activation", activation, {"gelu", "gelu_tanh"},
         "gelu: exact (nanoGPT); gelu_tanh: GPT-2's approximation");
  f.number("layer_norm_eps", layer_norm_eps, {1e-12, 1}, "added to the variance");
  f.boolean("rematerialize", rematerialize,
            "recompute blocks, and the memory module at each, in the backward pass instead of "
            "keeping their activations");
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

class Gpt2 final : public Family {
 public:
  Gpt2() : Family({"gpt2", {"gpt2"}, "GPT2LMHeadModel", "gpt2"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    c.refuse("tie_word_embeddings", !c.boolean("tie_word_embeddings", true),
             "GPT-2 is supported with a tied head only");
    c.refuse("scale_attn_weights", !c.boolean("scale_attn_weights", true),
             "attention without its scale is not supported");
    for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
      c.refuse(key, c.boolean(key, false), "not built");
    const std::string act = c.text("activation_function", "gelu_new");
    const bool tanh = act == "gelu_new" || act == "gelu_pytorch_tanh";
    c.refuse("activation_function", !tanh && act != "gelu",
             "known are gelu, gelu_new and gelu_pytorch_tanh");
    const int64_t width = c.integer("n_embd", 768);
    return {{"vocab_size", c.integer("vocab_size", 50257)},
            {"block_size", c.integer("n_positions", 1024)},
            {"n_layer", c.integer("n_layer", 12)},
            {"n_head", c.integer("n_head", 12)},
            {"n_embd", width},
            {"n_hidden", c.has("n_inner") ? c.integer("n_inner") : 4 * width},
            {"layer_norm_eps", c.number("layer_norm_epsilon", 1e-5)},
            {"bias", true},
            {"activation", tanh ? "gelu_tanh" : "gelu"}};
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    return {{"n_positions", s.block_size},
            {"n_embd", s.features},
            {"n_layer", s.layers},
            {"n_head", s.heads},
            {"n_inner", s.hidden},
            {"activation_function", options.at("activation") == "gelu" ? "gelu" : "gelu_new"},
            {"layer_norm_epsilon", s.norm_eps},
            {"scale_attn_weights", true},
            {"scale_attn_by_inverse_layer_idx", false},
            {"reorder_and_upcast_attn", false},
            {"add_cross_attention", false},
            {"resid_pdrop", 0.0},
            {"embd_pdrop", 0.0},
            {"attn_pdrop", 0.0}};
  }
  Json from_gguf(GgufKeys& keys) const override {
    const int64_t heads = keys.heads(), dim = keys.positive("embedding_length") / heads;
    if (keys.integer("attention.head_count_kv", heads) != heads)
      keys.unsupported("attention.head_count_kv", fmt::format("other than the {} heads", heads));
    for (const char* same : {"attention.key_length", "attention.value_length"})
      keys.expect_head_dim(same, dim);
    keys.expect_attention_scale(dim);
    keys.ignore("rope.");  // it has no rotary positions
    return {{"layer_norm_eps", keys.number("attention.layer_norm_epsilon")},
            {"bias", true},
            {"activation", "gelu_tanh"}};
  }
  void to_gguf(GgufKeyWriter& keys, const Json&, const TransformerShape& s) const override {
    keys.number("attention.layer_norm_epsilon", s.norm_eps);
    keys.refuse(s.activation != Unary::gelu_tanh, "the exact GELU (activation \"gelu\")");
  }
  bool files_have_biases() const override { return true; }
};

const bool gpt2_registered = register_family<Gpt2, Gpt2Options>(
    "GPT-2's and nanoGPT's architecture: pre-LN, learned positions, tied head");

}  // namespace
}  // namespace reverie
