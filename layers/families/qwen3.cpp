// Qwen3: Llama with norms on query and key, and a sliding window in its upper layers.

#include "layers/families/qwen.h"

namespace reverie {
namespace {

struct Qwen3Options final : QwenOptions {
  TransformerShape shape() const {
    TransformerShape s = qwen_shape();
    s.names.query_norm = "q_norm";
    s.names.key_norm = "k_norm";
    return s;
  }
};

class Qwen3 final : public QwenFamily {
 public:
  Qwen3() : QwenFamily({"qwen3", {"qwen3"}, "Qwen3ForCausalLM", "qwen3"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    return qwen_options(c, {{"max_position_embeddings", 32768}, {"head_dim", 128}});
  }
};

const bool qwen3_registered = register_family<Qwen3, Qwen3Options>(
    "Qwen3's architecture: Llama's with an RMSNorm on each query and key head");

}  // namespace
}  // namespace reverie
