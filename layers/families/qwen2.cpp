// Qwen2: Llama with biases on query, key and value, and a sliding window in its upper layers.

#include <nlohmann/json.hpp>

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

// transformers' Qwen2Tokenizer, which version 5 takes for every model of this type, keeps vocabulary
// and merges of a tokenizer.json and nothing else: its normalizer and its pattern are these.
constexpr const char* kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_qwen2_tokenizer(const Json& tokenizer) {
  const auto type_of = [](const Json& part) {
    return part.is_object() ? part.value("type", "") : std::string();
  };
  if (type_of(tokenizer.value("model", Json())) != "BPE" ||
      tokenizer["model"].value("byte_fallback", false) ||
      type_of(tokenizer.value("normalizer", Json())) != "NFC" ||
      type_of(tokenizer.value("decoder", Json())) != "ByteLevel")
    return false;
  const Json split = tokenizer.value("pre_tokenizer", Json());
  if (type_of(split) != "Sequence" || split["pretokenizers"].size() != 2) return false;
  const Json &first = split["pretokenizers"][0], &second = split["pretokenizers"][1];
  return type_of(first) == "Split" && first["pattern"].value("Regex", "") == kPattern &&
         first.value("behavior", "") == "Isolated" && !first.value("invert", false) &&
         type_of(second) == "ByteLevel" && !second.value("add_prefix_space", true) &&
         !second.value("use_regex", true);
}

class Qwen2 final : public QwenFamily {
 public:
  Qwen2() : QwenFamily({"qwen2", {"qwen2"}, "Qwen2ForCausalLM", "qwen2"}) {}

  Json from_hugging_face(const HuggingFaceConfig& c) const override {
    return qwen_options(c, {{"max_position_embeddings", 32768}});
  }
  std::string tokenizer_conflict(const Json& tokenizer) const override {
    if (is_qwen2_tokenizer(tokenizer)) return "";
    return "transformers 5 reads the tokenizer of every qwen2 model by the rules of Qwen2's own "
           "(byte-level BPE behind NFC, split by its pattern), and would read a text as other "
           "tokens "
           "than this vocabulary does. Wanted Qwen2's tokenizer; with another one train a qwen3 or "
           "a llama, or write GGUF";
  }
  Json to_hugging_face(const Json& options, const TransformerShape& s) const override {
    require(s.head_dim * s.heads == s.features,
            "transformers' qwen2 supports a head_dim of n_embd / n_head alone, got {}", s.head_dim);
    Json out = QwenFamily::to_hugging_face(options, s);
    out.erase("attention_bias");  // its biases are part of transformers' class
    return out;
  }
};

const bool qwen2_registered = register_family<Qwen2, Qwen2Options>(
    "Qwen2's architecture: Llama's with biases on query, key and value");

}  // namespace
}  // namespace reverie
