// Llama 1 to 3, SmolLM2, and others of their shape.

#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {
namespace {

struct LlamaOptions final : RotaryOptions {
  RopeScaling rope_scaling;
  void fields(Fields& f) override {
    RotaryOptions::fields(f);
    f.object("rope_scaling", rope_scaling, "stretched rotary angles (Llama 3.1 and later: llama3)");
  }
  TransformerShape shape() const {
    TransformerShape s = rotary_shape();
    for (LayerShape& layer : s.per_layer)
      layer.inverse_frequencies = inverse_frequencies(s.head_dim, rope_theta, rope_scaling);
    return s;
  }
};

class Llama final : public Family {
 public:
  Llama() : Family({"llama", {"llama"}, "LlamaForCausalLM", "llama"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    refuse_other_activations(c);
    refuse_windows(c);
    Json out = rotary_options(c, {{"max_position_embeddings", 2048}});
    const Rope rope = rope_of(c, 1e4);
    out["rope_theta"] = rope.theta;
    out["rope_scaling"] = rope.scaling;
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    Json out = rotary_config(options, s);
    out.update({{"hidden_act", "silu"}, {"mlp_bias", false}, {"pretraining_tp", 1}});
    return out;
  }
  Json from_gguf(GgufKeys& keys) const override {
    Json out = rotary_options(keys);
    out["rope_scaling"] = rope_scaling(keys);
    keys.expect_attention_scale(gguf_head_dim(keys));
    return out;
  }
  void to_gguf(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) const override {
    write_rotary_keys(keys, options, s);
    keys.integer("vocab_size", s.vocabulary);
    keys.integer("rope.dimension_count", s.head_dim);
    write_llama3_scaling(keys, options, s);
  }
  bool gguf_turns_neighbours() const override { return true; }
};

const bool llama_registered = register_family<Llama, LlamaOptions>(
    "Llama's architecture: RMSNorm, RoPE, grouped queries, "
    "SwiGLU");

}  // namespace
}  // namespace reverie
