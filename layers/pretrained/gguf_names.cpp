#include "layers/pretrained/gguf_names.h"

#include "core/error.h"

namespace reverie {
namespace {

struct Name {
  const char *gguf, *published;
};
// Parts of a block.
constexpr Name kGpt2Parts[] = {{"attn_norm", "ln_1"},          {"attn_qkv", "attn.c_attn"},
                               {"attn_output", "attn.c_proj"}, {"ffn_norm", "ln_2"},
                               {"ffn_up", "mlp.c_fc"},         {"ffn_down", "mlp.c_proj"}};
constexpr Name kLlamaParts[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};
// Those of Gemma stand before Llama's.
constexpr Name kGemmaParts[] = {{"post_attention_norm", "post_attention_layernorm"},
                                {"ffn_norm", "pre_feedforward_layernorm"},
                                {"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr Name kGpt2Whole[] = {{"token_embd", "transformer.wte"},
                               {"position_embd", "transformer.wpe"},
                               {"output_norm", "transformer.ln_f"},
                               {"output", "lm_head"}};
constexpr Name kLlamaWhole[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

std::vector<Name> parts_of(const std::string& architecture) {
  std::vector<Name> names;
  if (architecture == "gpt2") return {std::begin(kGpt2Parts), std::end(kGpt2Parts)};
  if (architecture.starts_with("gemma"))
    names.assign(std::begin(kGemmaParts), std::end(kGemmaParts));
  names.insert(names.end(), std::begin(kLlamaParts), std::end(kLlamaParts));
  return names;
}
std::vector<Name> whole_of(const std::string& architecture) {
  if (architecture == "gpt2") return {std::begin(kGpt2Whole), std::end(kGpt2Whole)};
  return {std::begin(kLlamaWhole), std::end(kLlamaWhole)};
}
std::string blocks_of(const std::string& architecture) {
  return architecture == "gpt2" ? "transformer.h." : "model.layers.";
}

// `name`, "stem.ending", by the tables; "" where they do not have it. `from`, `to`: the column to
// look in and the one to answer from; `begins`, `becomes`: how a block's names begin in each.
std::string translated(const std::string& architecture, const std::string& name,
                       const char* Name::*from, const char* Name::*to, const std::string& begins,
                       const std::string& becomes) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return "";
  const std::string stem = name.substr(0, dot), ending = name.substr(dot);
  for (const Name& known : whole_of(architecture))
    if (stem == known.*from) return known.*to + ending;
  const size_t second = stem.find('.', begins.size());
  if (!stem.starts_with(begins) || second == std::string::npos) return "";
  const std::string layer = stem.substr(begins.size(), second - begins.size()),
                    part = stem.substr(second + 1);
  for (const Name& known : parts_of(architecture))
    if (part == known.*from) return becomes + layer + "." + known.*to + ending;
  return "";
}

}  // namespace

const std::vector<std::string>& gguf_architectures() {
  static const std::vector<std::string> all = {"gpt2",  "llama",  "qwen2",
                                               "qwen3", "gemma2", "gemma3"};
  return all;
}

std::string published_name(const std::string& architecture, const std::string& name) {
  const std::string published = translated(architecture, name, &Name::gguf, &Name::published,
                                           "blk.", blocks_of(architecture));
  return published.empty() ? name : published;
}

std::string gguf_name(const std::string& architecture, const std::string& name) {
  std::string gguf = translated(architecture, name, &Name::published, &Name::gguf,
                                blocks_of(architecture), "blk.");
  if (gguf.empty())
    throw InternalError(fmt::format("{} has no tensor {} in GGUF", architecture, name));
  return gguf;
}

}  // namespace reverie
