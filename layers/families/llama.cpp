// Llama 1 to 3, SmolLM2, and others of their shape.

#include "layers/families/rotary.h"
#include "layers/transformer.h"

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

const bool registered = ModelRegistry::instance().add<Transformer, LlamaOptions>(
    "llama", "Llama shape: RMSNorm, RoPE, grouped queries, SwiGLU");

}  // namespace
}  // namespace reverie
