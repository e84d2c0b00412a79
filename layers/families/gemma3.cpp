// Gemma 3 (text).

#include "layers/families/gemma.h"

namespace reverie {
namespace {

struct Gemma3Options final : GemmaOptions {
  double rope_local_theta = 10000;
  RopeScaling rope_scaling;
  Gemma3Options() {
    rope_theta = 1e6;
    sliding_window = 512;
    global_every = 6;
  }
  void fields(Fields& f) override {
    GemmaOptions::fields(f);
    f.number("rope_local_theta", rope_local_theta, {1, 1e9},
             "base of the rotary angles in local layers; rope_theta applies to the global ones");
    f.object("rope_scaling", rope_scaling, "stretched rotary angles of global layers");
  }
  TransformerShape shape() const {
    TransformerShape s = gemma_shape();
    s.names.query_norm = "q_norm";
    s.names.key_norm = "k_norm";
    alternate(s, sliding_window, global_every,
              inverse_frequencies(s.head_dim, rope_local_theta, {}),
              inverse_frequencies(s.head_dim, rope_theta, rope_scaling));
    return s;
  }
};

class Gemma3 final : public GemmaFamily {
 public:
  Gemma3()
      : GemmaFamily({"gemma3", {"gemma3_text", "gemma3"}, "Gemma3ForCausalLM", "gemma3"}, 6, 62) {}

  Json from_hugging_face(const HuggingFaceConfig& whole) const override {
    // With images ("gemma3"), the text model alone is built.
    const HuggingFaceConfig c = whole.text("model_type") == "gemma3" && whole.has("text_config")
                                    ? whole.object("text_config")
                                    : whole;
    Json out = gemma_options(c, {{"vocab_size", 262208}, {"max_position_embeddings", 131072}});
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
      c.refuse(key, c.has(key), "Gemma 3 is supported without soft-caps only");
    double local = c.number("rope_local_base_freq", 1e4);
    Rope rope{1e6, {{"type", "none"}}};
    if (c.has("rope_parameters") && c.object("rope_parameters").has("full_attention")) {
      const HuggingFaceConfig kinds = c.object("rope_parameters"),
                              global = kinds.object("full_attention");
      rope = {global.number("rope_theta", 1e6),
              rope_scaling_of(global, c.integer("max_position_embeddings", 131072))};
      if (kinds.has("sliding_attention")) {
        const HuggingFaceConfig sliding = kinds.object("sliding_attention");
        local = sliding.number("rope_theta", local);
        kinds.refuse("sliding_attention", rope_scaling_of(sliding, 8192).at("type") != "none",
                     "rope scaling of local layers is not supported");
      }
    } else {
      rope = rope_of(c, 1e6);
    }
    out["rope_theta"] = rope.theta;
    out["rope_scaling"] = rope.scaling;
    out["rope_local_theta"] = local;
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    Json out = gemma_config(options, s);
    const Json& local = options.at("rope_local_theta");
    out["rope_local_base_freq"] = local;
    out["rope_parameters"] = {{"full_attention", out.at("rope_parameters")},
                              {"sliding_attention", rope_parameters(local, nullptr)}};
    return out;
  }
  Json from_gguf(GgufKeys& keys) const override {
    Json out = gemma_options(keys, 1e6);
    out["rope_scaling"] = rope_scaling(keys);
    out["rope_local_theta"] = keys.number("rope.freq_base_swa", 1e4);
    return out;
  }
  void to_gguf(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) const override {
    write_gemma_keys(keys, options, s);
    keys.refuse(options.at("rope_local_theta") != 10000, "a rope_local_theta other than 10000");
  }
};

const bool gemma3_registered = register_family<Gemma3, Gemma3Options>(
    "Gemma 3's architecture: query and key norms, five local layers for each global one, two "
    "rope bases");

}  // namespace
}  // namespace reverie
