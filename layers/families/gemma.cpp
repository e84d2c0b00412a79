#include "layers/families/gemma.h"

#include <cmath>

#include "core/error.h"

namespace reverie {

GemmaOptions::GemmaOptions() {
  rms_norm_eps = 1e-6;
  tie_weights = true;
}

void GemmaOptions::fields(Fields& f) {
  RotaryOptions::fields(f);
  f.integer_or_auto("query_pre_attn_scalar", query_pre_attn_scalar, kPositive,
                    "scores are divided by its square root; auto: head_dim");
  f.integer("sliding_window", sliding_window, {1, int64_t(1) << 24},
            "number of keys that a row of a local layer sees, including its own");
  f.integer("global_every", global_every, {1, 1 << 20},
            "every n-th layer sees all keys, the others a sliding window");
}

TransformerShape GemmaOptions::gemma_shape() const {
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

namespace {

// n where every n-th layer is global, as "layer_types" says it.
int64_t global_every(const HuggingFaceConfig& c, int64_t layers, int64_t fallback) {
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
             fmt::format("layer {} breaks the only supported pattern: a full_attention after "
                         "every {} sliding_attention",
                         i, every - 1));
  return every;
}

Json number_or_null(double value) {
  return value > 0 ? Json(value) : Json();
}

}  // namespace

Json GemmaFamily::gemma_options(const HuggingFaceConfig& c, const Json& more_defaults) const {
  const std::string act = c.text("hidden_activation", "gelu_pytorch_tanh");
  c.refuse("hidden_activation", act != "gelu_pytorch_tanh",
           "this family supports gelu_pytorch_tanh only");
  c.refuse("use_bidirectional_attention", c.boolean("use_bidirectional_attention", false),
           "attention is causal in this program");
  Json defaults = {{"hidden_size", 2304},
                   {"intermediate_size", 9216},
                   {"num_hidden_layers", 26},
                   {"num_attention_heads", 8},
                   {"num_key_value_heads", 4},
                   {"head_dim", 256},
                   {"tied", true}};
  defaults.update(more_defaults);
  Json out = rotary_options(c, defaults);
  out["query_pre_attn_scalar"] = c.integer("query_pre_attn_scalar", 256);
  out["sliding_window"] = c.integer("sliding_window", 4096);
  out["global_every"] = global_every(c, out.at("n_layer"), usual_every_);
  return out;
}

Json GemmaFamily::gemma_config(const Json& options, const TransformerShape& s) const {
  Json out = rotary_config(options, s);
  const Json& scalar = options.at("query_pre_attn_scalar");
  out.update({{"hidden_activation", "gelu_pytorch_tanh"},
              {"query_pre_attn_scalar", scalar.is_number() ? scalar : Json(s.head_dim)},
              {"sliding_window", options.at("sliding_window")},
              {"layer_types", layer_types(s)},
              {"use_bidirectional_attention", false},
              {"attn_logit_softcapping", number_or_null(s.attention_softcap)},
              {"final_logit_softcapping", number_or_null(s.logit_softcap)}});
  return out;
}

// No converter writes the scale of scores: 1 / sqrt(head_dim), but in the 27B models
// 1 / sqrt(n_embd / n_head).
Json GemmaFamily::gemma_options(GgufKeys& keys, double default_theta) const {
  Json out = rotary_options(keys, default_theta);
  const bool largest = keys.integer("block_count") == largest_layers_;
  const int64_t scalar =
      largest ? keys.integer("embedding_length") / keys.heads() : gguf_head_dim(keys);
  keys.expect_attention_scale(scalar);
  out["query_pre_attn_scalar"] = scalar;
  out["sliding_window"] = keys.integer("attention.sliding_window");
  out["global_every"] = keys.integer("attention.sliding_window_pattern", usual_every_);
  for (const char* of_images : {"vision.", "mm."}) keys.ignore(of_images);
  return out;
}

void GemmaFamily::write_gemma_keys(GgufKeyWriter& keys, const Json& options,
                                   const TransformerShape& s) const {
  write_rotary_keys(keys, options, s);
  write_rope_scaling(keys, options);
  const double scalar = double(s.layers == largest_layers_ ? s.features / s.heads : s.head_dim);
  keys.refuse(std::abs(s.attention_scale * std::sqrt(scalar) - 1) > 1e-9,
              fmt::format("a query_pre_attn_scalar other than {}", scalar));
  keys.refuse(options.at("global_every").get<int64_t>() != usual_every_,
              fmt::format("global_every other than {}", usual_every_));
  keys.refuse(!s.tied, "an output projection of its own (tie_weights false)");
  keys.integer("attention.sliding_window", options.at("sliding_window").get<int64_t>());
}

}  // namespace reverie
