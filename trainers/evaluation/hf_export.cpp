#include "trainers/evaluation/hf_export.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "layers/transformer.h"

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

Json gpt2_config(const Json& c, const TransformerShape& s) {
  return {{"n_positions", s.block_size},
          {"n_embd", s.features},
          {"n_layer", s.layers},
          {"n_head", s.heads},
          {"n_inner", s.hidden},
          {"activation_function", c.at("activation") == "gelu" ? "gelu" : "gelu_new"},
          {"layer_norm_epsilon", s.norm_eps},
          {"resid_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"attn_pdrop", 0.0},
          {"tie_word_embeddings", true}};
}

// In the words of transformers 4, which 5 understands too.
Json rotary_config(const Json& c, const TransformerShape& s) {
  Json out = {{"max_position_embeddings", s.block_size},
              {"hidden_size", s.features},
              {"num_hidden_layers", s.layers},
              {"num_attention_heads", s.heads},
              {"num_key_value_heads", s.kv_heads},
              {"head_dim", s.head_dim},
              {"intermediate_size", s.hidden},
              {"rope_theta", c.at("rope_theta")},
              {"rms_norm_eps", s.norm_eps},
              {"tie_word_embeddings", s.tied}};
  if (const Json scaling = c.value("rope_scaling", Json::object());
      scaling.value("type", "none") != "none") {
    out["rope_scaling"] = {{"rope_type", scaling.at("type")}, {"factor", scaling.at("factor")}};
    if (scaling.at("type") == "llama3") {
      out["rope_scaling"]["low_freq_factor"] = scaling.at("low_freq_factor");
      out["rope_scaling"]["high_freq_factor"] = scaling.at("high_freq_factor");
      out["rope_scaling"]["original_max_position_embeddings"] = scaling.at("original_block_size");
    }
  }
  return out;
}

Json gemma_config(const Json& c, const TransformerShape& s, bool third) {
  Json out = rotary_config(c, s);
  out["hidden_activation"] = "gelu_pytorch_tanh";
  out["query_pre_attn_scalar"] =
      c.at("query_pre_attn_scalar").is_number() ? c.at("query_pre_attn_scalar") : Json(s.head_dim);
  out["sliding_window"] = c.at("sliding_window");
  out["layer_types"] = Json::array();
  for (const LayerShape& layer : s.per_layer)
    out["layer_types"].push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  if (third) {
    out["rope_local_base_freq"] = c.at("rope_local_theta");
    return out;
  }
  const auto cap = [](double value) { return value > 0 ? Json(value) : Json(); };
  out["attn_logit_softcapping"] = cap(s.attention_softcap);
  out["final_logit_softcapping"] = cap(s.logit_softcap);
  return out;
}

Json config_of(const Family& family, const Json& c, const TransformerShape& s) {
  const std::string type = family.type;
  Json out = {{"model_type", family.model_type},
              {"architectures", {family.architecture}},
              {"vocab_size", s.vocabulary}};
  Json more = type == "gpt2"              ? gpt2_config(c, s)
              : type.starts_with("gemma") ? gemma_config(c, s, type == "gemma3")
                                          : rotary_config(c, s);
  if (type == "llama" || type.starts_with("qwen")) more["hidden_act"] = "silu";
  out.update(more);
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

void export_hf(LanguageModel& model, const Component& component, const std::string& directory) {
  const Json& c = *component.resolved;
  const auto family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const Family& f) { return f.type == component.type; });
  const auto* transformer = dynamic_cast<const Transformer*>(&model);
  require(
      family != std::end(kFamilies) && transformer,
      "cannot export a \"{}\" model: transformers' gpt2, llama, qwen2, qwen3, gemma2 and gemma3 "
      "are known",
      component.type);
  if (c.contains("memory") && !c.at("memory").is_null())
    throw UserError(fmt::format(
        "cannot export: the model has a memory module ({}), which transformers does not know",
        c.at("memory").value("type", "?")));
  const TransformerShape& shape = transformer->shape();
  // Qwen2 derives it.
  require(component.type != "qwen2" || shape.head_dim * shape.heads == shape.features,
          "cannot export: transformers' qwen2 has a head_dim of n_embd / n_head alone, not {}",
          shape.head_dim);
  NamedTensors weights;
  for (const auto& [name, t] : model.state()) {
    weights.emplace_back(
        name, shape.norm_stored_minus_one && t.rank() == 1 ? minus_one(t) : t.to(DType::f32));
    // GPT2LMHeadModel always has biases.
    if (component.type == "gpt2" && !shape.bias && name.ends_with(".weight") &&
        name.find("wte") == std::string::npos && name.find("wpe") == std::string::npos)
      weights.emplace_back(name.substr(0, name.size() - 6) + "bias",
                           Tensor::zeros({t.size(-1)}, DType::f32));
  }
  std::filesystem::create_directories(directory);
  write_file_atomically(directory + "/config.json",
                        json_text(config_of(*family, c, shape), 2) + "\n");
  write_safetensors(directory + "/model.safetensors", weights, {{"format", "pt"}});

  // Long enough for every window to end, where the model goes that far.
  const int64_t length = std::min<int64_t>(model.block_size(), 256);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(int32_t((i * 7 + 3) % model.vocabulary_size()));
  const Tensor tokens = Tensor::from<int32_t>({1, length}, ids);
  model.train(false);
  NoGrad guard;
  write_safetensors(directory + "/reverie_logits.safetensors",
                    {{"tokens", tokens}, {"logits", model.logits(tokens).tensor().to(DType::f32)}});
}

}  // namespace reverie
