#include "layers/pretrained/hugging_face_writer.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {
namespace {

struct Family {
  const char* type;        // ours
  const char* model_type;  // transformers'
  const char* architecture;
};
constexpr Family kFamilies[] = {
    {"gpt2", "gpt2", "GPT2LMHeadModel"},       {"llama", "llama", "LlamaForCausalLM"},
    {"qwen2", "qwen2", "Qwen2ForCausalLM"},    {"qwen3", "qwen3", "Qwen3ForCausalLM"},
    {"gemma2", "gemma2", "Gemma2ForCausalLM"}, {"gemma3", "gemma3_text", "Gemma3ForCausalLM"}};

const Family& family_of(const std::string& type) {
  for (const Family& family : kFamilies)
    if (family.type == type) return family;
  throw UserError(
      fmt::format("transformers has no model like \"{}\"; known are gpt2, llama, qwen2, qwen3, "
                  "gemma2 and gemma3",
                  type));
}

Json id_or_null(const std::optional<int32_t>& id) {
  return id ? Json(*id) : Json();
}
// One id, or a list of several.
Json ids_or_null(const std::vector<int32_t>& ids) {
  return ids.empty() ? Json() : ids.size() == 1 ? Json(ids[0]) : Json(ids);
}
Json number_or_null(double value) {
  return value > 0 ? Json(value) : Json();
}

Json gpt2_config(const Json& c, const TransformerShape& s) {
  return {{"n_positions", s.block_size},
          {"n_embd", s.features},
          {"n_layer", s.layers},
          {"n_head", s.heads},
          {"n_inner", s.hidden},
          {"activation_function", c.at("activation") == "gelu" ? "gelu" : "gelu_new"},
          {"layer_norm_epsilon", s.norm_eps},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"add_cross_attention", false},
          {"resid_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"attn_pdrop", 0.0}};
}

// One kind of rotary angles, in transformers' words.
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

Json scaling_of(const Json& c) {
  return c.contains("rope_scaling") ? c.at("rope_scaling") : Json();
}

// transformers 4 reads "rope_theta" and "rope_scaling", 5 "rope_parameters".
Json rotary_config(const Json& c, const TransformerShape& s) {
  const Json rope = rope_parameters(c.at("rope_theta"), scaling_of(c));
  Json scaling = nullptr;
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
          {"rope_theta", c.at("rope_theta")},
          {"rope_scaling", scaling},
          {"rope_parameters", rope}};
}

Json llama_config(const Json& c, const TransformerShape& s) {
  Json out = rotary_config(c, s);
  out.update({{"hidden_act", "silu"}, {"mlp_bias", false}, {"pretraining_tp", 1}});
  return out;
}

Json layer_types(const TransformerShape& s) {
  Json types = Json::array();
  for (const LayerShape& layer : s.per_layer)
    types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  return types;
}

Json qwen_config(const Json& c, const TransformerShape& s, bool second) {
  require(!second || s.head_dim * s.heads == s.features,
          "transformers' qwen2 has a head_dim of n_embd / n_head alone, not {}", s.head_dim);
  Json out = rotary_config(c, s);
  out.update({{"hidden_act", "silu"},
              {"use_sliding_window", false},
              {"sliding_window", nullptr},
              {"max_window_layers", s.layers},
              {"layer_types", layer_types(s)}});
  // Qwen2's biases are part of its class.
  if (second) out.erase("attention_bias");
  return out;
}

Json gemma_config(const Json& c, const TransformerShape& s, bool third) {
  Json out = rotary_config(c, s);
  const Json& scalar = c.at("query_pre_attn_scalar");
  out.update({{"hidden_activation", "gelu_pytorch_tanh"},
              {"query_pre_attn_scalar", scalar.is_number() ? scalar : Json(s.head_dim)},
              {"sliding_window", c.at("sliding_window")},
              {"layer_types", layer_types(s)},
              {"use_bidirectional_attention", false},
              {"attn_logit_softcapping", number_or_null(s.attention_softcap)},
              {"final_logit_softcapping", number_or_null(s.logit_softcap)}});
  if (!third) return out;
  out["rope_local_base_freq"] = c.at("rope_local_theta");
  out["rope_parameters"] = {
      {"full_attention", out.at("rope_parameters")},
      {"sliding_attention", rope_parameters(c.at("rope_local_theta"), nullptr)}};
  return out;
}

// A norm that multiplies by 1 + w: w.
Tensor minus_one(const Tensor& t) {
  Tensor w = t.to(DType::f64).clone();
  double* x = w.mutable_data<double>();
  for (int64_t i = 0; i < w.numel(); ++i) x[i] -= 1;
  return w.to(DType::f32);
}

}  // namespace

Json hugging_face_config(const PlainModel& plain, const TextEnds& ends) {
  const Family& family = family_of(plain.component.type);
  const Json& c = *plain.component.resolved;
  const TransformerShape& s = plain.model.shape();
  const std::string type = family.type;
  Json out = {{"model_type", family.model_type},
              {"architectures", {family.architecture}},
              {"vocab_size", s.vocabulary},
              {"bos_token_id", id_or_null(ends.begin)},
              {"eos_token_id", ids_or_null(ends.end)},
              {"pad_token_id", nullptr},
              {"tie_word_embeddings", s.tied},
              {"dtype", "float32"},
              {"torch_dtype", "float32"},
              {"use_cache", true}};
  out.update(type == "gpt2"              ? gpt2_config(c, s)
             : type.starts_with("gemma") ? gemma_config(c, s, type == "gemma3")
             : type.starts_with("qwen")  ? qwen_config(c, s, type == "qwen2")
                                         : llama_config(c, s));
  return out;
}

Json generation_config(const TextEnds& ends) {
  return {{"bos_token_id", id_or_null(ends.begin)},
          {"eos_token_id", ids_or_null(ends.end)},
          {"pad_token_id", nullptr}};
}

NamedTensors hugging_face_tensors(const PlainModel& plain) {
  const TransformerShape& shape = plain.model.shape();
  NamedTensors weights;
  for (const auto& [name, t] : plain_state(plain)) {
    weights.emplace_back(
        name, shape.norm_stored_minus_one && t.rank() == 1 ? minus_one(t) : t.to(DType::f32));
    // GPT2LMHeadModel always has biases.
    if (plain.component.type == "gpt2" && !shape.bias && name.ends_with(".weight") &&
        name.find("wte") == std::string::npos && name.find("wpe") == std::string::npos)
      weights.emplace_back(name.substr(0, name.size() - 6) + "bias",
                           Tensor::zeros({t.size(-1)}, DType::f32));
  }
  return weights;
}

}  // namespace reverie
