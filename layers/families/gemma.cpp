// Gemma 2 and Gemma 3 (text).

#include <cmath>

#include "layers/families/rotary.h"
#include "layers/transformer.h"

namespace reverie {
namespace {

struct GemmaOptions : RotaryOptions {
  std::optional<int64_t> query_pre_attn_scalar;
  int64_t sliding_window = 4096, global_every = 2;
  GemmaOptions() {
    rms_norm_eps = 1e-6;
    tie_weights = true;
  }
  void fields(Fields& f) override {
    RotaryOptions::fields(f);
    f.integer_or_auto("query_pre_attn_scalar", query_pre_attn_scalar, kPositive,
                      "scores are divided by its square root; auto: head_dim");
    f.integer("sliding_window", sliding_window, {1, int64_t(1) << 24},
              "keys that a row of a local layer sees, its own included");
    f.integer("global_every", global_every, {1, 1 << 20},
              "every n-th layer sees all keys, the others a sliding window");
  }

 protected:
  TransformerShape gemma_shape() const {
    TransformerShape s = rotary_shape();
    s.norm_stored_minus_one = true;
    s.activation = Unary::gelu_tanh;
    s.embedding_scale = float(std::sqrt(double(n_embd)));  // transformers rounds it to f32
    s.attention_scale = 1 / std::sqrt(double(query_pre_attn_scalar.value_or(s.head_dim)));
    s.names.attention_post_norm = "post_attention_layernorm";
    s.names.mlp_norm = "pre_feedforward_layernorm";
    s.names.mlp_post_norm = "post_feedforward_layernorm";
    return s;
  }
};

struct Gemma2Options final : GemmaOptions {
  double attention_softcap = 50, logit_softcap = 30;
  void fields(Fields& f) override {
    GemmaOptions::fields(f);
    f.number("attention_softcap", attention_softcap, {0, 1e6},
             "attention scores s become c tanh(s / c); 0: they stay");
    f.number("logit_softcap", logit_softcap, {0, 1e6}, "the same for the final logits");
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
             "base of the rotary angles in local layers; rope_theta is that of global ones");
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

const bool gemma2_registered = ModelRegistry::instance().add<Transformer, Gemma2Options>(
    "gemma2", "Gemma 2 shape: soft-caps, local and global layers in turn, GeGLU, post-norms");
const bool gemma3_registered = ModelRegistry::instance().add<Transformer, Gemma3Options>(
    "gemma3",
    "Gemma 3 shape: query and key norms, five local layers to a global one, two rope bases");

}  // namespace
}  // namespace reverie
