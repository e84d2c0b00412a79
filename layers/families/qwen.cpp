// Qwen2 and Qwen3: Llama with biases on query, key and value, or with norms on query and key.

#include "layers/families/rotary.h"
#include "layers/transformer.h"

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

const bool qwen2_registered = ModelRegistry::instance().add<Transformer, Qwen2Options>(
    "qwen2", "Qwen2 shape: Llama's with biases on query, key and value");
const bool qwen3_registered = ModelRegistry::instance().add<Transformer, Qwen3Options>(
    "qwen3", "Qwen3 shape: Llama's with an RMSNorm on each query and key head");

}  // namespace
}  // namespace reverie
