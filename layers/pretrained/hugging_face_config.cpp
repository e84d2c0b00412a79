// config.json of transformers (4 and 5) -> a model component of ours.

#include "core/error.h"
#include "core/json.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

// A JSON object of a config.json; null counts as absent.
class Object {
 public:
  Object(const Json& json, std::string file, std::string path)
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  bool has(const std::string& key) const { return json_.contains(key) && !json_.at(key).is_null(); }
  Object object(const std::string& key) const {
    if (!has(key) || !json_.at(key).is_object()) wrong(key, "an object");
    return {json_.at(key), file_, path_ + key + "."};
  }
  int64_t integer(const std::string& key, std::optional<int64_t> fallback = {}) const {
    return value<int64_t>(key, fallback, "an integer", [](const Json& j) {
      return j.is_number_integer() &&
             !(j.is_number_unsigned() && j.get<uint64_t>() > uint64_t(INT64_MAX));
    });
  }
  double number(const std::string& key, std::optional<double> fallback = {}) const {
    return value<double>(key, fallback, "a number", [](const Json& j) { return j.is_number(); });
  }
  bool boolean(const std::string& key, bool fallback) const {
    return value<bool>(key, fallback, "true or false",
                       [](const Json& j) { return j.is_boolean(); });
  }
  std::string text(const std::string& key, std::optional<std::string> fallback = {}) const {
    return value<std::string>(key, fallback, "a string",
                              [](const Json& j) { return j.is_string(); });
  }
  // null turns a feature off, where its absence means the default.
  double number_or_off(const std::string& key, double fallback) const {
    return json_.contains(key) && json_.at(key).is_null() ? 0 : number(key, fallback);
  }
  std::vector<std::string> texts(const std::string& key) const {
    const Json& list = json_.at(key);
    if (!list.is_array()) wrong(key, "an array of strings");
    std::vector<std::string> out;
    for (const Json& j : list) {
      if (!j.is_string()) wrong(key, "an array of strings");
      out.push_back(j.get<std::string>());
    }
    return out;
  }

  [[noreturn]] void unsupported(const std::string& key, const std::string& why) const {
    throw DataError(fmt::format("{}: \"{}{}\" is {}: {}", file_, path_, key,
                                json_.contains(key) ? shortened(json_.at(key)) : "not given", why));
  }
  void refuse(const std::string& key, bool given, const std::string& why) const {
    if (given) unsupported(key, why);
  }

 private:
  static std::string shortened(const Json& j) {
    std::string text = json_text_replacing(j);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }
  [[noreturn]] void wrong(const std::string& key, const std::string& wanted) const {
    unsupported(key, "wanted " + wanted);
  }
  template <class T, class Is>
  T value(const std::string& key, const std::optional<T>& fallback, const std::string& wanted,
          const Is& is) const {
    if (!has(key)) {
      if (!fallback) wrong(key, wanted);
      return *fallback;
    }
    if (!is(json_.at(key))) wrong(key, wanted);
    return json_.at(key).template get<T>();
  }

  const Json& json_;
  std::string file_, path_;
};

Json rope_scaling(const Object& rope, int64_t longest) {
  rope.refuse("partial_rotary_factor", rope.number("partial_rotary_factor", 1) != 1,
              "only rotary positions of whole heads are built");
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text(key, "default");
  if (type == "default") return {{"type", "none"}};
  if (type == "linear") return {{"type", type}, {"factor", rope.number("factor")}};
  if (type == "llama3")
    return {{"type", type},
            {"factor", rope.number("factor")},
            {"low_freq_factor", rope.number("low_freq_factor")},
            {"high_freq_factor", rope.number("high_freq_factor")},
            {"original_block_size", rope.integer("original_max_position_embeddings", longest)}};
  rope.unsupported(key, "known are default, linear and llama3");
}

struct Rope {
  double theta;
  Json scaling;
};
// transformers 5 has all in "rope_parameters"; 4 had "rope_theta" and, where scaled,
// "rope_scaling".
Rope rope_of(const Object& c, double default_theta) {
  const int64_t longest = c.integer("max_position_embeddings", 8192);
  const double theta = c.number("rope_theta", default_theta);
  if (c.has("rope_parameters")) {
    const Object rope = c.object("rope_parameters");
    return {rope.number("rope_theta", theta), rope_scaling(rope, longest)};
  }
  if (c.has("rope_scaling")) return {theta, rope_scaling(c.object("rope_scaling"), longest)};
  return {theta, {{"type", "none"}}};
}
void refuse_scaling(const Object& c, const Rope& rope, const std::string& type) {
  c.refuse(c.has("rope_parameters") ? "rope_parameters" : "rope_scaling",
           rope.scaling.at("type") != "none",
           fmt::format("no rope scaling is built for {} models", type));
}

// What every rotary family's configuration says in the same words. `sizes`: values for what a
// config.json may leave out.
Json rotary(const Object& c, const std::string& type, const Json& sizes) {
  const auto integer = [&](const char* key) {
    return c.integer(key,
                     sizes.contains(key) ? sizes.at(key).get<int64_t>() : std::optional<int64_t>());
  };
  c.refuse("attention_bias", c.boolean("attention_bias", false),
           "biases of these projections are not built");
  c.refuse("mlp_bias", c.boolean("mlp_bias", false), "MLP biases are not built");
  c.refuse("partial_rotary_factor", c.number("partial_rotary_factor", 1) != 1,
           "only rotary positions of whole heads are built");
  const int64_t heads = integer("num_attention_heads");
  c.refuse("num_attention_heads", heads <= 0, "wanted 1 or more");
  const int64_t width = integer("hidden_size");
  Json out = {{"type", type},
              {"vocab_size", integer("vocab_size")},
              {"block_size", integer("max_position_embeddings")},
              {"n_layer", integer("num_hidden_layers")},
              {"n_head", heads},
              {"n_embd", width},
              {"n_kv_head", sizes.contains("num_key_value_heads")
                                ? integer("num_key_value_heads")
                                : c.integer("num_key_value_heads", heads)},
              {"n_hidden", integer("intermediate_size")},
              {"rms_norm_eps", c.number("rms_norm_eps", 1e-6)},
              {"tie_weights", c.boolean("tie_word_embeddings", sizes.contains("tied"))}};
  if (sizes.contains("head_dim"))
    out["head_dim"] = integer("head_dim");
  else if (c.has("head_dim"))
    out["head_dim"] = c.integer("head_dim");
  return out;
}

void wants_silu(const Object& c) {
  const std::string act = c.text("hidden_act", "silu");
  c.refuse("hidden_act", act != "silu" && act != "swish", "this family is built with silu");
}
void all_layers_global(const Object& c) {
  c.refuse("use_sliding_window", c.boolean("use_sliding_window", false),
           "sliding windows are built for Gemma alone");
  if (!c.has("layer_types")) return;
  for (const std::string& kind : c.texts("layer_types"))
    c.refuse("layer_types", kind != "full_attention",
             "only full_attention is built for this family");
}

Json gpt2(const Object& c) {
  c.refuse("tie_word_embeddings", !c.boolean("tie_word_embeddings", true),
           "GPT-2 is built with a tied head");
  c.refuse("scale_attn_weights", !c.boolean("scale_attn_weights", true),
           "attention without its scale is not built");
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    c.refuse(key, c.boolean(key, false), "not built");
  const std::string act = c.text("activation_function", "gelu_new");
  const bool tanh = act == "gelu_new" || act == "gelu_pytorch_tanh";
  c.refuse("activation_function", !tanh && act != "gelu",
           "known are gelu, gelu_new and "
           "gelu_pytorch_tanh");
  const int64_t width = c.integer("n_embd", 768);
  return {{"type", "gpt2"},
          {"vocab_size", c.integer("vocab_size", 50257)},
          {"block_size", c.integer("n_positions", 1024)},
          {"n_layer", c.integer("n_layer", 12)},
          {"n_head", c.integer("n_head", 12)},
          {"n_embd", width},
          {"n_hidden", c.has("n_inner") ? c.integer("n_inner") : 4 * width},
          {"layer_norm_eps", c.number("layer_norm_epsilon", 1e-5)},
          {"bias", true},
          {"activation", tanh ? "gelu_tanh" : "gelu"}};
}

Json llama(const Object& c) {
  wants_silu(c);
  all_layers_global(c);
  Json out = rotary(c, "llama", {{"max_position_embeddings", 2048}});
  const Rope rope = rope_of(c, 1e4);
  out["rope_theta"] = rope.theta;
  out["rope_scaling"] = rope.scaling;
  return out;
}

Json qwen(const Object& c, const std::string& type) {
  wants_silu(c);
  all_layers_global(c);
  Json sizes = {{"max_position_embeddings", 32768}};
  if (type == "qwen3") sizes["head_dim"] = 128;
  Json out = rotary(c, type, sizes);
  const Rope rope = rope_of(c, 1e4);
  refuse_scaling(c, rope, type);
  out["rope_theta"] = rope.theta;
  return out;
}

// n where every n-th layer is global, as "layer_types" says it.
int64_t global_every(const Object& c, int64_t layers, int64_t fallback) {
  if (!c.has("layer_types"))
    return c.integer("sliding_window_pattern", c.integer("_sliding_window_pattern", fallback));
  const std::vector<std::string> kinds = c.texts("layer_types");
  c.refuse("layer_types", int64_t(kinds.size()) != layers,
           fmt::format("wanted one for each of {} layers", layers));
  int64_t every = 1;
  while (every <= layers && kinds[size_t(every - 1)] != "full_attention") ++every;
  for (int64_t i = 0; i < layers; ++i)
    c.refuse("layer_types",
             kinds[size_t(i)] != ((i + 1) % every == 0 ? "full_attention" : "sliding_attention"),
             fmt::format("layer {} breaks the pattern of a full_attention after every {} "
                         "sliding_attention, which alone is built",
                         i, every - 1));
  return every;
}

Json gemma(const Object& c, const std::string& type) {
  const bool third = type == "gemma3";
  const std::string act = c.text("hidden_activation", "gelu_pytorch_tanh");
  c.refuse("hidden_activation", act != "gelu_pytorch_tanh",
           "this family is built with gelu_pytorch_tanh");
  c.refuse("use_bidirectional_attention", c.boolean("use_bidirectional_attention", false),
           "attention is causal here");
  Json out = rotary(c, type,
                    {{"vocab_size", third ? 262208 : 256000},
                     {"hidden_size", 2304},
                     {"intermediate_size", 9216},
                     {"num_hidden_layers", 26},
                     {"num_attention_heads", 8},
                     {"num_key_value_heads", 4},
                     {"head_dim", 256},
                     {"max_position_embeddings", third ? 131072 : 8192},
                     {"tied", true}});
  out["query_pre_attn_scalar"] = c.integer("query_pre_attn_scalar", 256);
  out["sliding_window"] = c.integer("sliding_window", 4096);
  out["global_every"] = global_every(c, out.at("n_layer"), third ? 6 : 2);
  if (!third) {
    const Rope rope = rope_of(c, 1e4);
    refuse_scaling(c, rope, type);
    out["rope_theta"] = rope.theta;
    out["attention_softcap"] = c.number_or_off("attn_logit_softcapping", 50);
    out["logit_softcap"] = c.number_or_off("final_logit_softcapping", 30);
    return out;
  }
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
    c.refuse(key, c.has(key), "Gemma 3 is built without soft-caps");
  double local = c.number("rope_local_base_freq", 1e4);
  Rope rope{1e6, {{"type", "none"}}};
  if (c.has("rope_parameters") && c.object("rope_parameters").has("full_attention")) {
    const Object kinds = c.object("rope_parameters"), global = kinds.object("full_attention");
    rope = {global.number("rope_theta", 1e6),
            rope_scaling(global, c.integer("max_position_embeddings", 131072))};
    if (kinds.has("sliding_attention")) {
      const Object sliding = kinds.object("sliding_attention");
      local = sliding.number("rope_theta", local);
      kinds.refuse("sliding_attention", rope_scaling(sliding, 8192).at("type") != "none",
                   "scaling of local layers is not built");
    }
  } else {
    rope = rope_of(c, 1e6);
  }
  out["rope_theta"] = rope.theta;
  out["rope_scaling"] = rope.scaling;
  out["rope_local_theta"] = local;
  return out;
}

}  // namespace

Json hugging_face_component(const Json& config, const std::string& file) {
  if (!config.is_object()) throw DataError(fmt::format("{}: not a JSON object", file));
  const Object c(config, file, "");
  c.refuse("quantization_config", c.has("quantization_config"),
           "quantized weights are not read from safetensors; use the full ones or a .gguf file");
  const std::string type = c.text("model_type");
  if (type == "gpt2") return gpt2(c);
  if (type == "llama") return llama(c);
  if (type == "qwen2" || type == "qwen3") return qwen(c, type);
  if (type == "gemma2") return gemma(c, type);
  if (type == "gemma3_text") return gemma(c, "gemma3");
  // With images; the text model is all that is built.
  if (type == "gemma3") return gemma(c.has("text_config") ? c.object("text_config") : c, "gemma3");
  c.unsupported("model_type",
                "known are gpt2, llama, qwen2, qwen3, gemma2, gemma3_text and gemma3");
}

}  // namespace reverie
