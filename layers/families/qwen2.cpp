// Qwen2: Llama with biases on query, key and value, and a sliding window in its upper layers.

#include "core/error.h"
#include "layers/families/qwen.h"

namespace reverie {
namespace {

struct Qwen2Options final : QwenOptions {
  TransformerShape shape() const {
    TransformerShape s = qwen_shape();
    s.query_key_value_bias = true;
    return s;
  }
};

class Qwen2 final : public QwenFamily {
 public:
  Qwen2() : QwenFamily({"qwen2", {"qwen2"}, "Qwen2ForCausalLM", "qwen2"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    return qwen_options(c, {{"max_position_embeddings", 32768}});
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    require(s.head_dim * s.heads == s.features,
            "transformers' qwen2 has a head_dim of n_embd / n_head alone, not {}", s.head_dim);
    Json out = QwenFamily::to_hugging_face(options, s);
    out.erase("attention_bias");  // its biases are part of transformers' class
    return out;
  }
};

const bool registered = register_family<Qwen2, Qwen2Options>(
    "Qwen2 shape: Llama's with biases on query, key and value");

}  // namespace
}  // namespace reverie
