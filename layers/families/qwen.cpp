#include "layers/families/qwen.h"

#include "core/error.h"

namespace reverie {

QwenOptions::QwenOptions() {
  rms_norm_eps = 1e-6;
  rope_theta = 1e6;
}

void QwenOptions::fields(Fields& f) {
  RotaryOptions::fields(f);
  f.integer("sliding_window", sliding_window, {0, int64_t(1) << 24},
            "keys that a row of a windowed layer sees, its own included; 0: all layers see all");
  f.integer("max_window_layers", max_window_layers, {0, 1000},
            "with a sliding window: the first so many layers see all keys");
}

TransformerShape QwenOptions::qwen_shape() const {
  TransformerShape s = rotary_shape();
  for (int64_t i = max_window_layers; i < s.layers; ++i)
    s.per_layer[size_t(i)].window = sliding_window;
  return s;
}

namespace {

// How many layers see all keys before those with a window.
int64_t full_layers(const HuggingFaceConfig& c, int64_t layers) {
  if (!c.has("layer_types")) return c.integer("max_window_layers", 28);
  const std::vector<std::string> kinds = c.texts("layer_types");
  c.refuse("layer_types", int64_t(kinds.size()) != layers,
           fmt::format("wanted one for each of {} layers", layers));
  int64_t full = 0;
  while (full < layers && kinds[size_t(full)] == "full_attention") ++full;
  for (int64_t i = full; i < layers; ++i)
    c.refuse("layer_types", kinds[size_t(i)] != "sliding_attention",
             fmt::format("layer {} is \"{}\" behind the first with a window: only full_attention "
                         "first and sliding_attention behind it is built",
                         i, kinds[size_t(i)]));
  return full;
}

}  // namespace

Json QwenFamily::qwen_options(const HuggingFaceConfig& c, const Json& defaults) const {
  refuse_other_activations(c);
  Json out = rotary_options(c, defaults);
  const Rope rope = rope_of(c, 1e4);
  refuse_scaling(c, rope, names().type);
  out["rope_theta"] = rope.theta;
  if (!c.boolean("use_sliding_window", false) || c.is_off("sliding_window")) {
    refuse_windowed_layers(c);
    return out;
  }
  const int64_t layers = out.at("n_layer").get<int64_t>(),
                window = c.integer("sliding_window", 4096);
  c.refuse("sliding_window", window < 1, "wanted null or 1 or more");
  out["max_window_layers"] = full_layers(c, layers);
  out["sliding_window"] = window;
  return out;
}

Json QwenFamily::to_hugging_face(const Json& options, const TransformerShape& s) const {
  const int64_t window = options.at("sliding_window").get<int64_t>();
  Json out = rotary_config(options, s);
  out.update({{"hidden_act", "silu"},
              {"use_sliding_window", window > 0},
              {"sliding_window", window > 0 ? Json(window) : Json()},
              {"max_window_layers", window > 0 ? options.at("max_window_layers") : Json(s.layers)},
              {"layer_types", layer_types(s)}});
  return out;
}

Json QwenFamily::from_gguf(GgufKeys& keys) const {
  Json out = rotary_options(keys);
  refuse_scaling(keys);
  keys.expect_attention_scale(gguf_head_dim(keys));
  return out;
}

void QwenFamily::to_gguf(GgufKeyWriter& keys, const Json& options,
                         const TransformerShape& s) const {
  for (const LayerShape& layer : s.per_layer)
    keys.refuse(layer.window > 0 && layer.window < s.block_size,
                "a sliding_window shorter than block_size");
  write_rotary_keys(keys, options, s);
}

}  // namespace reverie
