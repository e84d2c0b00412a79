// Models in GGUF files: llama.cpp's names for shapes and tensors.

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/gguf.h"
#include "layers/pretrained/formats.h"
#include "layers/pretrained/gguf_names.h"

namespace reverie {
namespace {

class GgufModel {
 public:
  explicit GgufModel(const std::string& path)
      : file_(std::make_shared<const GgufFile>(read_gguf(path))),
        architecture_(file_->text("general.architecture")) {
    const std::vector<std::string>& known = gguf_architectures();
    if (std::find(known.begin(), known.end(), architecture_) == known.end())
      throw DataError(
          fmt::format("{}: architecture \"{}\" is not built here; known are gpt2, llama, qwen2, "
                      "qwen3, gemma2 and gemma3",
                      path, architecture_));
    gemma_ = architecture_.starts_with("gemma");
  }

  Json component() const {
    check_keys();
    const GgufTensor& table = file_->at("token_embd.weight");
    if (table.shape.rank() != 2) unsupported("token_embd.weight", table.shape.str());
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
      StoredTensor s{published_name(architecture_, t.name), t.shape, DType::f32,
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

  // Every key of the architecture is read, known to change nothing here, or refused: llama.cpp adds
  // keys that change a model's results.
  void check_keys() const {
    const std::string prefix = key("");
    for (const auto& [name, value] : file_->metadata) {
      if (!name.starts_with(prefix)) continue;
      const std::string part = name.substr(prefix.size());
      if (changes_nothing(part)) continue;
      unsupported(name, value.type() == GgufValueType::array || value.type() == GgufValueType::text
                            ? "given"
                            : describe(name, value));
    }
    if (const std::string type = file_->text("general.type", "model"); type != "model")
      unsupported("general.type", "\"" + type + "\"");
    if (const int64_t files = file_->integer("split.count", 1); files > 1)
      unsupported("split.count", fmt::format("{}: a part of a model (merge its files)", files));
  }
  std::string describe(const std::string& name, const GgufValue& value) const {
    return value.type() == GgufValueType::boolean ? (file_->boolean(name) ? "true" : "false")
                                                  : fmt::format("{}", file_->number(name));
  }
  bool changes_nothing(const std::string& part) const {
    static const std::set<std::string> read = {"context_length",
                                               "block_count",
                                               "embedding_length",
                                               "feed_forward_length",
                                               "attention.head_count",
                                               "attention.head_count_kv",
                                               "attention.key_length",
                                               "attention.value_length",
                                               "attention.layer_norm_epsilon",
                                               "attention.layer_norm_rms_epsilon",
                                               "rope.dimension_count",
                                               "rope.freq_base",
                                               "rope.scaling.type",
                                               "rope.scaling.factor",
                                               "rope.scale_linear"};
    static const std::set<std::string> read_by_gemma = {
        "attention.sliding_window", "attention.sliding_window_pattern", "attn_logit_softcapping",
        "final_logit_softcapping", "rope.freq_base_swa"};
    // About names, training and pooled embeddings.
    static const std::set<std::string> of_no_account = {"vocab_size", "tensor_data_layout",
                                                        "pooling_type", "rope.scaling.finetuned",
                                                        "rope.scaling.original_context_length"};
    // Keys with the value that changes nothing.
    static const std::map<std::string, double> neutral = {{"leading_dense_block_count", 0},
                                                          {"nextn_predict_layers", 0},
                                                          {"attention.clamp_kqv", 0},
                                                          {"attention.max_alibi_bias", 0},
                                                          {"attention.sliding_window", 0},
                                                          {"attn_logit_softcapping", 0},
                                                          {"final_logit_softcapping", 0},
                                                          {"router_logit_softcapping", 0},
                                                          {"logit_scale", 1},
                                                          {"residual_scale", 1},
                                                          {"embedding_scale", 1},
                                                          {"rope.scaling.attn_factor", 1}};
    static const std::map<std::string, bool> neutral_truth = {{"attention.causal", true},
                                                              {"use_parallel_residual", false}};
    if (read.contains(part) || of_no_account.contains(part)) return true;
    if (part.starts_with("rope.scaling.yarn_")) return true;  // that type is refused
    if (part == "expert_count" && integer(part) != 0)
      unsupported(key(part), "a mixture of experts");
    if (part.starts_with("expert_") && integer("expert_count", 0) == 0) return true;
    if (part == "attention.scale") {
      const double dim = double(gemma_ ? query_scalar() : head_dim()), scale = number(part);
      return scale == 0 || std::abs(scale * std::sqrt(dim) - 1) < 1e-5;
    }
    if (gemma_) {
      // Gemma 3 has no soft-caps, Gemma 2 one base of its rotations.
      const bool third = architecture_ == "gemma3", caps = part.ends_with("_softcapping");
      if (read_by_gemma.contains(part) && (third ? !caps : part != "rope.freq_base_swa"))
        return true;
      if (part.starts_with("vision.") || part.starts_with("mm.")) return true;  // of images
    }
    for (const char* same :
         {"attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"})
      if (part == same) return integer(part) == head_dim();
    if (part == "attention.sliding_window" && integer(part) >= integer("context_length"))
      return true;
    if (const auto found = neutral.find(part); found != neutral.end())
      return number(part) == found->second;
    if (const auto found = neutral_truth.find(part); found != neutral_truth.end())
      return file_->boolean(key(part)) == found->second;
    return false;
  }

  // llama.cpp scales linearly where a factor is given without a type, and reads the factor under
  // its older name too; a factor of 0 is none.
  Json rope_scaling() const {
    const std::string type = file_->text(key("rope.scaling.type"), "linear");
    const double factor = number("rope.scaling.factor", number("rope.scale_linear", 0));
    if (type != "none" && type != "linear")
      unsupported(key("rope.scaling.type"), "\"" + type + "\"");
    const bool scaled = type == "linear" && factor != 0 && factor != 1;
    const GgufTensor* factors = file_->find("rope_freqs.weight");
    if (scaled && factors)
      unsupported("rope_freqs.weight", "given beside a linear scaling of positions");
    if (scaled) return {{"type", "linear"}, {"factor", factor}};
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
  out.bos = model.token("bos");
  for (const char* end : {"eos", "eot", "eom"})  // of the text, of a turn, of a message
    if (const auto id = model.token(end);
        id && std::find(out.ends.begin(), out.ends.end(), *id) == out.ends.end())
      out.ends.push_back(*id);
  return out;
}

}  // namespace reverie
