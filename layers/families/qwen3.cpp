// Qwen3: Llama with norms on query and key.

#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {
namespace {

struct Qwen3Options final : RotaryOptions {
  Qwen3Options() {
    rms_norm_eps = 1e-6;
    rope_theta = 1e6;
  }
  TransformerShape shape() const {
    TransformerShape s = rotary_shape();
    s.names.query_norm = "q_norm";
    s.names.key_norm = "k_norm";
    return s;
  }
};

class Qwen3 final : public Family {
 public:
  Qwen3() : Family({"qwen3", {"qwen3"}, "Qwen3ForCausalLM", "qwen3"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    refuse_other_activations(c);
    refuse_windows(c);
    Json out = rotary_options(c, {{"max_position_embeddings", 32768}, {"head_dim", 128}});
    const Rope rope = rope_of(c, 1e4);
    refuse_scaling(c, rope, names().type);
    out["rope_theta"] = rope.theta;
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    Json out = rotary_config(options, s);
    out.update({{"hidden_act", "silu"},
                {"use_sliding_window", false},
                {"sliding_window", nullptr},
                {"max_window_layers", s.layers},
                {"layer_types", layer_types(s)}});
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

const bool registered = register_family<Qwen3, Qwen3Options>(
    "Qwen3 shape: Llama's with an RMSNorm on each query and key head");

}  // namespace
}  // namespace reverie
