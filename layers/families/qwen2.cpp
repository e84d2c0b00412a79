// Qwen2: Llama with biases on query, key and value.

#include "core/error.h"
#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {
namespace {

struct Qwen2Options final : RotaryOptions {
  Qwen2Options() {
    rms_norm_eps = 1e-6;
    rope_theta = 1e6;
  }
  TransformerShape shape() const {
    TransformerShape s = rotary_shape();
    s.query_key_value_bias = true;
    return s;
  }
};

class Qwen2 final : public Family {
 public:
  Qwen2() : Family({"qwen2", {"qwen2"}, "Qwen2ForCausalLM", "qwen2"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    refuse_other_activations(c);
    refuse_windows(c);
    Json out = rotary_options(c, {{"max_position_embeddings", 32768}});
    const Rope rope = rope_of(c, 1e4);
    refuse_scaling(c, rope, names().type);
    out["rope_theta"] = rope.theta;
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    require(s.head_dim * s.heads == s.features,
            "transformers' qwen2 has a head_dim of n_embd / n_head alone, not {}", s.head_dim);
    Json out = rotary_config(options, s);
    out.update({{"hidden_act", "silu"},
                {"use_sliding_window", false},
                {"sliding_window", nullptr},
                {"max_window_layers", s.layers},
                {"layer_types", layer_types(s)}});
    out.erase("attention_bias");  // its biases are part of transformers' class
    return out;
  }
  Json from_gguf(GgufKeys& keys) const override {
    Json out = rotary_options(keys);
    refuse_scaling(keys);
    keys.expect_attention_scale(gguf_head_dim(keys));
    return out;
  }
  void to_gguf(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) const override {
    write_rotary_keys(keys, options, s);
  }
};

const bool registered = register_family<Qwen2, Qwen2Options>(
    "Qwen2 shape: Llama's with biases on query, key and value");

}  // namespace
}  // namespace reverie
