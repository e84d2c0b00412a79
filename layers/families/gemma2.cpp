// Gemma 2.

#include "layers/families/gemma.h"

namespace reverie {
namespace {

struct Gemma2Options final : GemmaOptions {
  double attention_softcap = 50, logit_softcap = 30;
  void fields(Fields& f) override {
    GemmaOptions::fields(f);
    f.number("attention_softcap", attention_softcap, {0, 1e6},
             "attention scores s become c tanh(s / c); 0: no change");
    f.number("logit_softcap", logit_softcap, {0, 1e6},
             "the final logits s become c tanh(s / c); "
             "0: no change");
  }
  TransformerShape shape() const {
    TransformerShape s = gemma_shape();
    s.attention_softcap = attention_softcap;
    s.logit_softcap = logit_softcap;
    const std::vector<double> frequencies = inverse_frequencies(s.head_dim, rope_theta, {});
    alternate(s, sliding_window, global_every, frequencies, frequencies);
    return s;
  }
};

class Gemma2 final : public GemmaFamily {
 public:
  Gemma2() : GemmaFamily({"gemma2", {"gemma2"}, "Gemma2ForCausalLM", "gemma2"}, 2, 46) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    Json out = gemma_options(c, {{"vocab_size", 256000}, {"max_position_embeddings", 8192}});
    const Rope rope = rope_of(c, 1e4);
    refuse_scaling(c, rope, names().type);
    out["rope_theta"] = rope.theta;
    out["attention_softcap"] = c.number_or_off("attn_logit_softcapping", 50);
    out["logit_softcap"] = c.number_or_off("final_logit_softcapping", 30);
    return out;
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    return gemma_config(options, s);
  }
  Json from_gguf(GgufKeys& keys) const override {
    Json out = gemma_options(keys, 1e4);
    refuse_scaling(keys);
    out["attention_softcap"] = keys.number("attn_logit_softcapping", 50);
    out["logit_softcap"] = keys.number("final_logit_softcapping", 30);
    return out;
  }
  void to_gguf(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) const override {
    write_gemma_keys(keys, options, s);
    keys.refuse(s.attention_softcap == 0 || s.logit_softcap == 0, "soft-caps that are off");
    keys.number("attn_logit_softcapping", s.attention_softcap);
    keys.number("final_logit_softcapping", s.logit_softcap);
  }
};

const bool gemma2_registered = register_family<Gemma2, Gemma2Options>(
    "Gemma 2's architecture: soft-caps, alternating local and global layers, GeGLU, post-norms");

}  // namespace
}  // namespace reverie
