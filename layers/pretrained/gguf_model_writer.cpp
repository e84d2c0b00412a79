#include "layers/pretrained/gguf_model_writer.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "layers/pretrained/formats.h"
#include "layers/pretrained/gguf_names.h"

namespace reverie {
namespace {

// The inverse of half_split_rows: rows of a query or key projection as GGUF's llama has them.
Tensor paired_rows(const Tensor& weight, int64_t heads) {
  const int64_t half = weight.size(0) / heads / 2;
  return weight.contiguous()
      .view({heads, 2, half, weight.numel() / weight.size(0)})
      .transpose(1, 2)
      .clone()
      .view(weight.shape());
}

// Hugging Face keeps GPT-2's matrices [in, out], GGUF [out, in].
bool is_turned(const std::string& architecture, const std::string& name, const Shape& shape) {
  return architecture == "gpt2" && shape.rank() == 2 && name.starts_with("transformer.h.");
}

// A parameter as the file has it.
struct Stored {
  std::string architecture, name;
  int64_t heads, kv_heads;
  Tensor value;
  Tensor operator()() const {
    if (is_turned(architecture, name, value.shape())) return value.transpose(0, 1);
    if (architecture == "llama" && name.ends_with("q_proj.weight"))
      return paired_rows(value, heads);
    if (architecture == "llama" && name.ends_with("k_proj.weight"))
      return paired_rows(value, kv_heads);
    return value;
  }
  Shape shape() const {
    const Shape& s = value.shape();
    return is_turned(architecture, name, s) ? Shape{s[1], s[0]} : s;
  }
};

class ModelWriter {
 public:
  ModelWriter(GgufWriter& out, const PlainModel& plain)
      : out_(out),
        plain_(plain),
        shape_(plain.model.shape()),
        options_(*plain.component.resolved),
        architecture_(plain.component.type) {
    const std::vector<std::string>& known = gguf_architectures();
    require(std::find(known.begin(), known.end(), architecture_) != known.end(),
            "no GGUF architecture is like \"{}\"", architecture_);
  }

  void metadata() {
    out_.text("general.architecture", architecture_);
    integer("context_length", shape_.block_size);
    integer("embedding_length", shape_.features);
    integer("block_count", shape_.layers);
    integer("feed_forward_length", shape_.hidden);
    integer("attention.head_count", shape_.heads);
    if (architecture_ == "gpt2") {
      out_.number(key("attention.layer_norm_epsilon"), shape_.norm_eps);
      refuse(shape_.activation != Unary::gelu_tanh, "the exact GELU (activation \"gelu\")");
      return;
    }
    integer("attention.head_count_kv", shape_.kv_heads);
    out_.number(key("attention.layer_norm_rms_epsilon"), shape_.norm_eps);
    out_.number(key("rope.freq_base"), number("rope_theta"));
    integer("attention.key_length", shape_.head_dim);
    integer("attention.value_length", shape_.head_dim);
    if (architecture_ == "llama") {
      integer("vocab_size", shape_.vocabulary);
      integer("rope.dimension_count", shape_.head_dim);
    }
    scaling();
    if (architecture_.starts_with("gemma")) gemma();
  }

  void tensors(GgufTensorType type) {
    if (const Json factors = llama3_factors(); !factors.is_null())
      add("rope_freqs.weight", {int64_t(factors.size())}, GgufTensorType::f32, [factors] {
        const auto divisors = factors.get<std::vector<float>>();
        return Tensor::from<float>({int64_t(divisors.size())}, divisors);
      });
    for (const auto& [name, value] : plain_state(plain_)) {
      const bool matrix = value.rank() == 2 && name != "transformer.wpe.weight";
      const Stored stored{architecture_, name, shape_.heads, shape_.kv_heads, value};
      add(gguf_name(architecture_, name), stored.shape(), matrix ? type : GgufTensorType::f32,
          stored);
      // Every GPT-2 in GGUF has biases.
      if (architecture_ == "gpt2" && !shape_.bias && name.ends_with(".weight") &&
          name.find("wte") == std::string::npos && name.find("wpe") == std::string::npos) {
        const Shape size{value.size(-1)};
        add(gguf_name(architecture_, name.substr(0, name.size() - 6) + "bias"), size,
            GgufTensorType::f32, [size] { return Tensor::zeros(size, DType::f32); });
      }
    }
  }

 private:
  std::string key(const char* name) const { return architecture_ + "." + name; }
  void integer(const char* name, int64_t value) { out_.integer(key(name), uint32_t(value)); }
  double number(const char* name) const { return options_.at(name).get<double>(); }
  void refuse(bool given, const std::string& what) const {
    if (given)
      throw UserError(
          fmt::format("a GGUF file has no word for {} in a {} model", what, architecture_));
  }
  void add(const std::string& name, const Shape& shape, GgufTensorType type,
           std::function<Tensor()> read) {
    out_.tensor(name, shape, type, std::move(read));
  }

  std::string scaling_type() const {
    return options_.contains("rope_scaling")
               ? options_.at("rope_scaling").at("type").get<std::string>()
               : "none";
  }
  void scaling() {
    const std::string type = scaling_type();
    if (type == "linear") {
      out_.text(key("rope.scaling.type"), type);
      out_.number(key("rope.scaling.factor"),
                  options_.at("rope_scaling").at("factor").get<double>());
    }
    refuse(type == "llama3" && architecture_ != "llama", "Llama 3's scaling of rotary angles");
  }
  // What each inverse frequency is divided by; null: no such scaling.
  Json llama3_factors() const {
    if (architecture_ != "llama" || scaling_type() != "llama3") return nullptr;
    const Json& scaling = options_.at("rope_scaling");
    refuse(scaling.at("low_freq_factor") != 1.0 || scaling.at("high_freq_factor") != 4.0 ||
               scaling.at("original_block_size") != 8192,
           "other constants of Llama 3's scaling than 1, 4 and 8192");
    const std::vector<double>& scaled = shape_.per_layer.at(0).inverse_frequencies;
    Json factors = Json::array();
    for (size_t i = 0; i < scaled.size(); ++i)
      factors.push_back(std::pow(number("rope_theta"), -2.0 * double(i) / double(shape_.head_dim)) /
                        scaled[i]);
    // Readers of ours find the factor in the slowest of them.
    refuse(factors.back().get<double>() < 0.999 * scaling.at("factor").get<double>(),
           "Llama 3's scaling where no angle turns slowly enough for the whole factor");
    return factors;
  }

  void gemma() {
    const bool third = architecture_ == "gemma3";
    // As llama.cpp has it: by the number of layers of the 27B models.
    const bool largest = shape_.layers == (third ? 62 : 46);
    const double scalar = double(largest ? shape_.features / shape_.heads : shape_.head_dim);
    refuse(std::abs(shape_.attention_scale * std::sqrt(scalar) - 1) > 1e-9,
           fmt::format("a query_pre_attn_scalar other than {}", scalar));
    const int64_t every = options_.at("global_every").get<int64_t>(), usual = third ? 6 : 2;
    refuse(every != usual, fmt::format("global_every other than {}", usual));
    refuse(!shape_.tied, "an output projection of its own (tie_weights false)");
    integer("attention.sliding_window", options_.at("sliding_window").get<int64_t>());
    if (third) {
      refuse(number("rope_local_theta") != 10000, "a rope_local_theta other than 10000");
      return;
    }
    refuse(shape_.attention_softcap == 0 || shape_.logit_softcap == 0, "soft-caps that are off");
    out_.number(key("attn_logit_softcapping"), shape_.attention_softcap);
    out_.number(key("final_logit_softcapping"), shape_.logit_softcap);
  }

  GgufWriter& out_;
  const PlainModel& plain_;
  const TransformerShape& shape_;
  const Json& options_;
  std::string architecture_;
};

}  // namespace

void write_gguf_model(GgufWriter& out, const PlainModel& plain, GgufTensorType type) {
  ModelWriter writer(out, plain);
  writer.metadata();
  writer.tensors(type);
}

}  // namespace reverie
