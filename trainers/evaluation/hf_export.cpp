#include "trainers/evaluation/hf_export.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"

namespace reverie {
namespace {

Json gpt2_config(const Json& c, int64_t vocabulary) {
  const int64_t embd = c.at("n_embd");
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"vocab_size", vocabulary},
          {"n_positions", c.at("block_size")},
          {"n_embd", embd},
          {"n_layer", c.at("n_layer")},
          {"n_head", c.at("n_head")},
          {"n_inner", c.at("n_hidden").is_number() ? c.at("n_hidden").get<int64_t>() : 4 * embd},
          {"activation_function", c.at("activation") == "gelu" ? "gelu" : "gelu_new"},
          {"layer_norm_epsilon", c.at("layer_norm_eps")},
          {"resid_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"attn_pdrop", 0.0},
          {"tie_word_embeddings", true}};
}

Json llama_config(const Json& c, int64_t vocabulary, const NamedTensors& weights) {
  int64_t hidden = 0;
  for (const auto& [name, t] : weights)
    if (name.ends_with("mlp.up_proj.weight")) hidden = t.size(0);
  return {
      {"model_type", "llama"},
      {"architectures", {"LlamaForCausalLM"}},
      {"vocab_size", vocabulary},
      {"max_position_embeddings", c.at("block_size")},
      {"hidden_size", c.at("n_embd")},
      {"num_hidden_layers", c.at("n_layer")},
      {"num_attention_heads", c.at("n_head")},
      {"num_key_value_heads", c.at("n_kv_head").is_number() ? c.at("n_kv_head") : c.at("n_head")},
      {"intermediate_size", hidden},
      {"rope_theta", c.at("rope_theta")},
      {"rms_norm_eps", c.at("rms_norm_eps")},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", c.at("tie_weights")}};
}

}  // namespace

void export_hf(LanguageModel& model, const Component& component, const std::string& directory) {
  const Json& c = *component.resolved;
  require(component.type == "gpt2" || component.type == "llama",
          "cannot export a \"{}\" model: transformers' gpt2 and llama are known", component.type);
  if (c.contains("memory") && !c.at("memory").is_null())
    throw UserError(fmt::format(
        "cannot export: the model has a memory module ({}), which transformers does not know",
        c.at("memory").value("type", "?")));
  NamedTensors weights;
  for (const auto& [name, t] : model.state()) {
    weights.emplace_back(name, t.to(DType::f32));
    // GPT2LMHeadModel always has biases.
    if (component.type == "gpt2" && !c.at("bias").get<bool>() && name.ends_with(".weight") &&
        name.find("wte") == std::string::npos && name.find("wpe") == std::string::npos)
      weights.emplace_back(name.substr(0, name.size() - 6) + "bias",
                           Tensor::zeros({t.size(-1)}, DType::f32));
  }
  std::filesystem::create_directories(directory);
  const Json config = component.type == "gpt2" ? gpt2_config(c, model.vocabulary_size())
                                               : llama_config(c, model.vocabulary_size(), weights);
  write_file_atomically(directory + "/config.json", config.dump(2) + "\n");
  write_safetensors(directory + "/model.safetensors", weights, {{"format", "pt"}});

  std::vector<int32_t> ids;
  for (int64_t i = 0; i < model.block_size(); ++i)
    ids.push_back(int32_t((i * 7 + 3) % model.vocabulary_size()));
  const Tensor tokens = Tensor::from<int32_t>({1, int64_t(ids.size())}, ids);
  model.train(false);
  NoGrad guard;
  write_safetensors(directory + "/reverie_logits.safetensors",
                    {{"tokens", tokens}, {"logits", model.logits(tokens).tensor().to(DType::f32)}});
}

}  // namespace reverie
