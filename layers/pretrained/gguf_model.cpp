// Models in GGUF files: llama.cpp's names for shapes and tensors.

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "core/error.h"
#include "core/gguf.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

const std::vector<std::string> kArchitectures = {"gpt2",  "llama",  "qwen2",
                                                 "qwen3", "gemma2", "gemma3"};

// A part of a block, in GGUF and in Hugging Face.
using Names = std::map<std::string, std::string>;
const Names kGpt2Names = {{"attn_norm", "ln_1"},          {"attn_qkv", "attn.c_attn"},
                          {"attn_output", "attn.c_proj"}, {"ffn_norm", "ln_2"},
                          {"ffn_up", "mlp.c_fc"},         {"ffn_down", "mlp.c_proj"}};
const Names kLlamaNames = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};
const Names kGemmaNames = {{"post_attention_norm", "post_attention_layernorm"},
                           {"ffn_norm", "pre_feedforward_layernorm"},
                           {"post_ffw_norm", "post_feedforward_layernorm"}};

class GgufModel {
 public:
  explicit GgufModel(const std::string& path)
      : file_(std::make_shared<const GgufFile>(read_gguf(path))),
        architecture_(file_->text("general.architecture")) {
    if (std::find(kArchitectures.begin(), kArchitectures.end(), architecture_) ==
        kArchitectures.end())
      throw DataError(
          fmt::format("{}: architecture \"{}\" is not built here; known are gpt2, llama, qwen2, "
                      "qwen3, gemma2 and gemma3",
                      path, architecture_));
    gemma_ = architecture_.starts_with("gemma");
  }

  Json component() const {
    const GgufTensor& table = file_->at("token_embd.weight");
    if (table.shape.rank() != 2) unsupported("token_embd.weight", table.shape.str());
    if (integer("expert_count", 0) != 0) unsupported(key("expert_count"), "a mixture of experts");
    Json c = {{"type", architecture_},
              {"vocab_size", table.shape[0]},
              {"block_size", integer("context_length")},
              {"n_layer", integer("block_count")},
              {"n_head", heads()},
              {"n_embd", integer("embedding_length")},
              {"n_hidden", integer("feed_forward_length")}};
    if (architecture_ == "gpt2") {
      c["layer_norm_eps"] = number("attention.layer_norm_epsilon");
      c["bias"] = true;
      c["activation"] = "gelu_tanh";
      return c;
    }
    c["n_kv_head"] = kv_heads();
    c["head_dim"] = head_dim();
    c["rms_norm_eps"] = number("attention.layer_norm_rms_epsilon");
    c["rope_theta"] = number("rope.freq_base", architecture_ == "gemma3" ? 1e6 : 1e4);
    c["tie_weights"] = file_->find("output.weight") == nullptr;
    const Json scaling = rope_scaling();
    if (architecture_ == "llama" || architecture_ == "gemma3")
      c["rope_scaling"] = scaling;
    else if (scaling.at("type") != "none")
      unsupported(key("rope.scaling.type"),
                  fmt::format("\"{}\" in a {} model", scaling.at("type").get<std::string>(),
                              architecture_));
    if (gemma_) {
      c["query_pre_attn_scalar"] = query_scalar();
      c["sliding_window"] = integer("attention.sliding_window");
      c["global_every"] =
          integer("attention.sliding_window_pattern", architecture_ == "gemma2" ? 2 : 6);
    }
    if (architecture_ == "gemma2") {
      c["attention_softcap"] = number("attn_logit_softcapping", 50);
      c["logit_softcap"] = number("final_logit_softcapping", 30);
    }
    if (architecture_ == "gemma3") c["rope_local_theta"] = number("rope.freq_base_swa", 1e4);
    return c;
  }

  std::vector<StoredTensor> tensors() const {
    std::vector<StoredTensor> out;
    for (const GgufTensor& t : file_->tensors) {
      if (t.name == "rope_freqs.weight") continue;  // see rope_scaling()
      // GPT-2's output projection is its embedding table, stored twice.
      if (architecture_ == "gpt2" && t.name == "output.weight") continue;
      StoredTensor s{published_name(t.name), t.shape, DType::f32,
                     [file = file_, &t] { return file->dequantize(t); }};
      if (architecture_ == "llama" && s.name.ends_with("q_proj.weight"))
        s = half_split_rows(std::move(s), heads());
      if (architecture_ == "llama" && s.name.ends_with("k_proj.weight"))
        s = half_split_rows(std::move(s), kv_heads());
      // Hugging Face keeps GPT-2's matrices [in, out].
      if (architecture_ == "gpt2" && t.name.starts_with("blk.") && s.shape.rank() == 2) {
        std::swap(s.shape[0], s.shape[1]);
        s.read = [read = s.read] { return read().transpose(0, 1); };
      }
      out.push_back(std::move(s));
    }
    return out;
  }

  bool prepend_bos() const {
    const bool sentencepiece = file_->text("tokenizer.ggml.model", "") == "llama";
    return file_->boolean("tokenizer.ggml.add_bos_token", sentencepiece);
  }
  std::optional<int32_t> token(const std::string& kind) const {
    const std::string name = "tokenizer.ggml." + kind + "_token_id";
    if (!file_->find_value(name)) return {};
    return int32_t(file_->integer(name));
  }

 private:
  std::string key(const std::string& name) const { return architecture_ + "." + name; }
  int64_t integer(const std::string& name, std::optional<int64_t> fallback = {}) const {
    return file_->integer(key(name), fallback);
  }
  double number(const std::string& name, std::optional<double> fallback = {}) const {
    return file_->number(key(name), fallback);
  }
  int64_t positive(const std::string& name, std::optional<int64_t> fallback = {}) const {
    const int64_t value = integer(name, fallback);
    if (value <= 0) unsupported(key(name), fmt::format("{}, wanted 1 or more", value));
    return value;
  }
  int64_t heads() const { return positive("attention.head_count"); }
  int64_t kv_heads() const { return positive("attention.head_count_kv", heads()); }
  int64_t head_dim() const {
    const int64_t dim = positive("attention.key_length", positive("embedding_length") / heads());
    for (const char* same : {"attention.value_length", "rope.dimension_count"})
      if (integer(same, dim) != dim)
        unsupported(key(same),
                    fmt::format("{}, while heads have a width of {}", integer(same), dim));
    return dim;
  }
  // Written by no converter: 1 / sqrt(head_dim), but in the 27B models 1 / sqrt(n_embd / n_head).
  int64_t query_scalar() const {
    const bool largest = integer("block_count") == (architecture_ == "gemma2" ? 46 : 62);
    return largest ? integer("embedding_length") / heads() : head_dim();
  }
  [[noreturn]] void unsupported(const std::string& where, const std::string& what) const {
    throw DataError(fmt::format("{}: {} is {}: not built here", file_->path, where, what));
  }

  Json rope_scaling() const {
    const std::string type = file_->text(key("rope.scaling.type"), "none");
    if (type == "linear") return {{"type", "linear"}, {"factor", number("rope.scaling.factor")}};
    if (type != "none") unsupported(key("rope.scaling.type"), "\"" + type + "\"");
    const GgufTensor* factors = file_->find("rope_freqs.weight");
    return factors ? llama3_scaling(*factors) : Json{{"type", "none"}};
  }
  // The converter writes what every inverse frequency is divided by. All published Llama 3 models
  // have the same constants but for the factor, which is the largest of these.
  Json llama3_scaling(const GgufTensor& stored) const {
    const auto divisors = file_->dequantize(stored).to_vector();
    const double base = number("rope.freq_base", 1e4);
    const int64_t dim = head_dim();
    if (int64_t(divisors.size()) != dim / 2)
      unsupported("rope_freqs.weight", "of shape " + stored.shape.str());
    const double factor = *std::max_element(divisors.begin(), divisors.end());
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double turns = 8192 / (2 * M_PI) * std::pow(base, -2.0 * double(i) / double(dim));
      const double keep = std::clamp((turns - 1) / 3, 0.0, 1.0);
      const double expected = 1 / (keep + (1 - keep) / factor);
      if (!(std::abs(divisors[i] - expected) <= 1e-3 * expected))
        unsupported("rope_freqs.weight",
                    fmt::format("{} at {}, which is not Llama 3's scaling", divisors[i], i));
    }
    return {{"type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", 4.0},
            {"original_block_size", 8192}};
  }

  // A name that is not known stays as it is: the model will call it unexpected.
  std::string published_name(const std::string& name) const {
    const bool gpt2 = architecture_ == "gpt2";
    const std::string root = gpt2 ? "transformer." : "model.";
    const size_t dot = name.rfind('.');
    if (dot == std::string::npos) return name;
    const std::string stem = name.substr(0, dot), ending = name.substr(dot);
    if (stem == "token_embd") return root + (gpt2 ? "wte" : "embed_tokens") + ending;
    if (stem == "position_embd" && gpt2) return root + "wpe" + ending;
    if (stem == "output_norm") return root + (gpt2 ? "ln_f" : "norm") + ending;
    if (stem == "output") return "lm_head" + ending;
    const size_t second = stem.find('.', 4);
    if (!stem.starts_with("blk.") || second == std::string::npos) return name;
    const std::string layer = stem.substr(4, second - 4), part = stem.substr(second + 1);
    const std::string block = root + (gpt2 ? "h." : "layers.") + layer + ".";
    if (gemma_)
      if (const auto it = kGemmaNames.find(part); it != kGemmaNames.end())
        return block + it->second + ending;
    const Names& names = gpt2 ? kGpt2Names : kLlamaNames;
    const auto it = names.find(part);
    return it == names.end() ? name : block + it->second + ending;
  }

  std::shared_ptr<const GgufFile> file_;
  std::string architecture_;
  bool gemma_ = false;
};

}  // namespace

PretrainedFiles open_gguf_model(const std::string& path) {
  const GgufModel model(path);
  PretrainedFiles out;
  out.component = model.component();
  out.tensors = model.tensors();
  out.norms_as_published = false;  // the converter adds the 1
  out.prepend_bos = model.prepend_bos();
  out.bos = model.token("bos");
  out.eos = model.token("eos");
  return out;
}

}  // namespace reverie
