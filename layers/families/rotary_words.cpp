#include "layers/families/rotary_words.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace reverie {

// ---- config.json --------------------------------------------------------------------------------

Json rotary_options(const HuggingFaceConfig& c, const Json& defaults) {
  const auto integer = [&](const char* key) {
    return c.integer(
        key, defaults.contains(key) ? defaults.at(key).get<int64_t>() : std::optional<int64_t>());
  };
  c.refuse("attention_bias", c.boolean("attention_bias", false),
           "biases of these projections are not supported");
  c.refuse("mlp_bias", c.boolean("mlp_bias", false), "MLP biases are not supported");
  c.refuse("partial_rotary_factor", c.number("partial_rotary_factor", 1) != 1,
           "only rotary positions of whole heads are supported");
  const int64_t heads = integer("num_attention_heads");
  c.refuse("num_attention_heads", heads <= 0, "wanted 1 or more");
  Json out = {{"vocab_size", integer("vocab_size")},
              {"block_size", integer("max_position_embeddings")},
              {"n_layer", integer("num_hidden_layers")},
              {"n_head", heads},
              {"n_embd", integer("hidden_size")},
              {"n_kv_head", defaults.contains("num_key_value_heads")
                                ? integer("num_key_value_heads")
                                : c.integer("num_key_value_heads", heads)},
              {"n_hidden", integer("intermediate_size")},
              {"rms_norm_eps", c.number("rms_norm_eps", 1e-6)},
              {"tie_weights", c.boolean("tie_word_embeddings", defaults.contains("tied"))}};
  if (defaults.contains("head_dim"))
    out["head_dim"] = integer("head_dim");
  else if (c.has("head_dim"))
    out["head_dim"] = c.integer("head_dim");
  return out;
}

Json rope_scaling_of(const HuggingFaceConfig& rope, int64_t longest) {
  rope.refuse("partial_rotary_factor", rope.number("partial_rotary_factor", 1) != 1,
              "only rotary positions of whole heads are supported");
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

Rope rope_of(const HuggingFaceConfig& c, double default_theta) {
  const int64_t longest = c.integer("max_position_embeddings", 8192);
  const double theta = c.number("rope_theta", default_theta);
  if (c.has("rope_parameters")) {
    const HuggingFaceConfig rope = c.object("rope_parameters");
    return {rope.number("rope_theta", theta), rope_scaling_of(rope, longest)};
  }
  if (c.has("rope_scaling")) return {theta, rope_scaling_of(c.object("rope_scaling"), longest)};
  return {theta, {{"type", "none"}}};
}

void refuse_scaling(const HuggingFaceConfig& c, const Rope& rope, const std::string& type) {
  c.refuse(c.has("rope_parameters") ? "rope_parameters" : "rope_scaling",
           rope.scaling.at("type") != "none",
           fmt::format("rope scaling is not supported for {} models", type));
}

void refuse_other_activations(const HuggingFaceConfig& c) {
  const std::string act = c.text("hidden_act", "silu");
  c.refuse("hidden_act", act != "silu" && act != "swish", "this family supports silu only");
}

void refuse_windows(const HuggingFaceConfig& c) {
  c.refuse("use_sliding_window", c.boolean("use_sliding_window", false),
           "sliding windows are not built for this family");
  refuse_windowed_layers(c);
}

void refuse_windowed_layers(const HuggingFaceConfig& c) {
  if (!c.has("layer_types")) return;
  for (const std::string& kind : c.texts("layer_types"))
    c.refuse("layer_types", kind != "full_attention",
             "only full_attention is built without a window");
}

Json rope_parameters(const Json& theta, const Json& scaling) {
  const std::string type = scaling.is_null() ? "none" : scaling.at("type").get<std::string>();
  if (type == "none") return {{"rope_theta", theta}, {"rope_type", "default"}};
  Json out = {{"rope_theta", theta}, {"rope_type", type}, {"factor", scaling.at("factor")}};
  if (type == "llama3") {
    out["low_freq_factor"] = scaling.at("low_freq_factor");
    out["high_freq_factor"] = scaling.at("high_freq_factor");
    out["original_max_position_embeddings"] = scaling.at("original_block_size");
  }
  return out;
}

Json rotary_config(const Json& options, const TransformerShape& s) {
  const Json& theta = options.at("rope_theta");
  const Json rope = rope_parameters(
      theta, options.contains("rope_scaling") ? options.at("rope_scaling") : Json());
  Json scaling = nullptr;  // transformers 4
  if (rope.at("rope_type") != "default") {
    scaling = rope;
    scaling.erase("rope_theta");
  }
  return {{"max_position_embeddings", s.block_size},
          {"hidden_size", s.features},
          {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"head_dim", s.head_dim},
          {"intermediate_size", s.hidden},
          {"rms_norm_eps", s.norm_eps},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"rope_theta", theta},
          {"rope_scaling", scaling},
          {"rope_parameters", rope}};
}

Json layer_types(const TransformerShape& s) {
  Json types = Json::array();
  for (const LayerShape& layer : s.per_layer)
    types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  return types;
}

// ---- GGUF ---------------------------------------------------------------------------------------

int64_t gguf_head_dim(GgufKeys& keys) {
  return keys.positive("attention.key_length", keys.positive("embedding_length") / keys.heads());
}

Json rotary_options(GgufKeys& keys, double default_theta) {
  const int64_t dim = gguf_head_dim(keys);
  for (const char* same :
       {"attention.value_length", "rope.dimension_count", "attention.key_length_swa",
        "attention.value_length_swa", "rope.dimension_count_swa"})
    keys.expect_head_dim(same, dim);
  keys.ignore("attention.layer_norm_epsilon");
  return {{"n_kv_head", keys.positive("attention.head_count_kv", keys.heads())},
          {"head_dim", dim},
          {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon")},
          {"rope_theta", keys.number("rope.freq_base", default_theta)},
          {"tie_weights", keys.file().find("output.weight") == nullptr}};
}

namespace {

// The converter writes what every inverse frequency is divided by. All published Llama 3 models
// have the same constants but for the factor, which is the largest of these.
Json llama3_scaling(GgufKeys& keys, const GgufTensor& stored) {
  const auto unsupported = [&](const std::string& what) {
    throw DataError(
        fmt::format("{}: rope_freqs.weight is {}: not built here", keys.file().path, what));
  };
  const auto divisors = keys.file().dequantize(stored).to_vector();
  const double base = keys.number("rope.freq_base", 1e4);
  const int64_t dim = gguf_head_dim(keys);
  if (int64_t(divisors.size()) != dim / 2) unsupported("of shape " + stored.shape.str());
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double turns =
        8192 / (2 * std::numbers::pi) * std::pow(base, -2.0 * double(i) / double(dim));
    const double keep = std::clamp((turns - 1) / 3, 0.0, 1.0);
    const double expected = 1 / (keep + (1 - keep) / factor);
    if (!(std::abs(divisors[i] - expected) <= 1e-3 * expected))
      unsupported(fmt::format("{} at {}, which is not Llama 3's scaling", divisors[i], i));
  }
  return {{"type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_block_size", 8192}};
}

std::string scaling_type(const Json& options) {
  return options.contains("rope_scaling") ? options.at("rope_scaling").at("type").get<std::string>()
                                          : "none";
}

}  // namespace

Json rope_scaling(GgufKeys& keys) {
  const std::string type = keys.text("rope.scaling.type", "linear");
  const double older = keys.number("rope.scale_linear", 0),
               factor = keys.number("rope.scaling.factor", older);
  if (type != "none" && type != "linear") keys.unsupported("rope.scaling.type", "\"" + type + "\"");
  const bool scaled = type == "linear" && factor != 0 && factor != 1;
  const GgufTensor* factors = keys.file().find("rope_freqs.weight");
  if (scaled && factors)
    throw DataError(fmt::format(
        "{}: rope_freqs.weight is given beside a linear scaling of positions: not built here",
        keys.file().path));
  if (scaled) return {{"type", "linear"}, {"factor", factor}};
  return factors ? llama3_scaling(keys, *factors) : Json{{"type", "none"}};
}

void refuse_scaling(GgufKeys& keys) {
  if (const std::string type = rope_scaling(keys).at("type"); type != "none")
    keys.unsupported("rope.scaling.type",
                     fmt::format("\"{}\" in a {} model", type, keys.architecture()));
}

void write_rotary_keys(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) {
  keys.integer("attention.head_count_kv", s.kv_heads);
  keys.number("attention.layer_norm_rms_epsilon", s.norm_eps);
  keys.number("rope.freq_base", options.at("rope_theta").get<double>());
  keys.integer("attention.key_length", s.head_dim);
  keys.integer("attention.value_length", s.head_dim);
}

void write_rope_scaling(GgufKeyWriter& keys, const Json& options) {
  const std::string type = scaling_type(options);
  keys.refuse(type == "llama3", "Llama 3's scaling of rotary angles");
  if (type != "linear") return;
  keys.text("rope.scaling.type", type);
  keys.number("rope.scaling.factor", options.at("rope_scaling").at("factor").get<double>());
}

void write_llama3_scaling(GgufKeyWriter& keys, const Json& options, const TransformerShape& s) {
  if (scaling_type(options) != "llama3") return write_rope_scaling(keys, options);
  const Json& scaling = options.at("rope_scaling");
  keys.refuse(scaling.at("low_freq_factor") != 1.0 || scaling.at("high_freq_factor") != 4.0 ||
                  scaling.at("original_block_size") != 8192,
              "other constants of Llama 3's scaling than 1, 4 and 8192");
  const double theta = options.at("rope_theta").get<double>();
  const std::vector<double>& scaled = s.per_layer.at(0).inverse_frequencies;
  std::vector<float> divisors;
  double last = 0;
  for (size_t i = 0; i < scaled.size(); ++i) {
    last = std::pow(theta, -2.0 * double(i) / double(s.head_dim)) / scaled[i];
    divisors.push_back(float(last));
  }
  // Readers of ours find the factor in the slowest of them.
  keys.refuse(last < 0.999 * scaling.at("factor").get<double>(),
              "Llama 3's scaling where no angle turns slowly enough for the whole factor");
  keys.tensor("rope_freqs.weight", divisors);
}

}  // namespace reverie
