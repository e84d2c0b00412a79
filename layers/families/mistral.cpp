// Mistral: Llama with a sliding window in every layer (7B v0.1), or without (later ones).

#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {
namespace {

struct MistralOptions final : RotaryOptions {
  int64_t sliding_window = 0;
  RopeScaling rope_scaling;
  void fields(Fields& f) override {
    RotaryOptions::fields(f);
    f.integer("sliding_window", sliding_window, {0, int64_t(1) << 24},
              "keys that a row sees, its own included; 0: all before it");
    f.object("rope_scaling", rope_scaling, "stretched rotary angles");
  }
  TransformerShape shape() const {
    TransformerShape s = rotary_shape();
    for (LayerShape& layer : s.per_layer)
      layer = {sliding_window, inverse_frequencies(s.head_dim, rope_theta, rope_scaling)};
    return s;
  }
};

class Mistral final : public Family {
 public:
  Mistral() : Family({"mistral", {"mistral"}, "MistralForCausalLM", "llama"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    refuse_other_activations(c);
    Json defaults = {{"max_position_embeddings", 131072}};
    if (!c.is_off("num_key_value_heads")) defaults["num_key_value_heads"] = 8;
    Json out = rotary_options(c, defaults);
    const bool all = c.is_off("sliding_window");
    const int64_t window = all ? 0 : c.integer("sliding_window", 4096);
    c.refuse("sliding_window", !all && window < 1, "wanted null or 1 or more");
    // transformers' class passes them over.
    c.refuse("layer_types", c.has("layer_types"), "layers that differ are not built for mistral");
    out["sliding_window"] = window;
    const Rope rope = rope_of(c, 1e4);
    out["rope_theta"] = rope.theta;
    out["rope_scaling"] = rope.scaling;
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    Json out = rotary_config(options, s);
    const int64_t window = options.at("sliding_window").get<int64_t>();
    out.update({{"hidden_act", "silu"}, {"sliding_window", window ? Json(window) : Json()}});
    out.erase("attention_bias");  // transformers' class has no such key
    return out;
  }
  // llama.cpp has these models as Llama, without windows.
  void to_gguf(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) const override {
    const int64_t window = options.at("sliding_window").get<int64_t>();
    keys.refuse(window > 0 && window < s.block_size, "a sliding_window shorter than block_size");
    write_rotary_keys(keys, options, s);
    keys.integer("vocab_size", s.vocabulary);
    keys.integer("rope.dimension_count", s.head_dim);
    write_llama3_scaling(keys, options, s);
  }
  bool gguf_turns_neighbours() const override { return true; }
  bool reads_gguf() const override { return false; }
};

const bool mistral_registered =
    register_family<Mistral, MistralOptions>("Mistral shape: Llama's, with a sliding window");

}  // namespace
}  // namespace reverie
