#include "layers/families/gguf_keys.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "layers/families/family.h"

namespace reverie {

// ---- reading ------------------------------------------------------------------------------------

GgufKeys::GgufKeys(std::shared_ptr<const GgufFile> file)
    : file_(std::move(file)), architecture_(file_->text("general.architecture")) {}

bool GgufKeys::has(const std::string& name) const {
  return file_->find_value(key(name)) != nullptr;
}
int64_t GgufKeys::integer(const std::string& name, std::optional<int64_t> fallback) {
  read_.insert(name);
  return file_->integer(key(name), fallback);
}
int64_t GgufKeys::positive(const std::string& name, std::optional<int64_t> fallback) {
  const int64_t value = integer(name, fallback);
  if (value <= 0) unsupported(name, fmt::format("{}, wanted 1 or more", value));
  return value;
}
double GgufKeys::number(const std::string& name, std::optional<double> fallback) {
  read_.insert(name);
  return file_->number(key(name), fallback);
}
std::string GgufKeys::text(const std::string& name, std::optional<std::string> fallback) {
  read_.insert(name);
  return file_->text(key(name), std::move(fallback));
}

Json GgufKeys::sizes() {
  const GgufTensor& table = file_->at("token_embd.weight");
  if (table.shape.rank() != 2)
    throw DataError(
        fmt::format("{}: token_embd.weight is {}: not built here", file_->path, table.shape.str()));
  return {{"vocab_size", table.shape[0]},          {"block_size", integer("context_length")},
          {"n_layer", integer("block_count")},     {"n_head", heads()},
          {"n_embd", integer("embedding_length")}, {"n_hidden", integer("feed_forward_length")}};
}

void GgufKeys::expect_head_dim(const std::string& name, int64_t head_dim) {
  if (integer(name, head_dim) != head_dim)
    unsupported(name, fmt::format("{}, while heads have a width of {}", integer(name), head_dim));
}

void GgufKeys::expect_attention_scale(int64_t dim) {
  const double scale = number("attention.scale", 0);
  if (scale != 0 && !(std::abs(scale * std::sqrt(double(dim)) - 1) < 1e-5))
    unsupported("attention.scale", fmt::format("{}", scale));
}

void GgufKeys::unsupported(const std::string& name, const std::string& what) const {
  throw DataError(
      fmt::format("{}: {} is {}, which is not supported", file_->path, key(name), what));
}

void GgufKeys::refuse_unread() const {
  const std::string prefix = key("");
  for (const auto& [whole, value] : file_->metadata) {
    if (!whole.starts_with(prefix)) continue;
    const std::string name = whole.substr(prefix.size());
    if (read_.contains(name) || changes_nothing(name)) continue;
    const bool plain = value.type() != GgufValueType::array && value.type() != GgufValueType::text,
               truth = value.type() == GgufValueType::boolean;
    unsupported(name, !plain  ? "given"
                      : truth ? (file_->boolean(whole) ? "true" : "false")
                              : fmt::format("{}", file_->number(whole)));
  }
}

bool GgufKeys::changes_nothing(const std::string& name) const {
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
  if (of_no_account.contains(name)) return true;
  for (const std::string& beginning : ignored_)
    if (name.starts_with(beginning)) return true;
  if (name.starts_with("rope.scaling.yarn_")) return true;  // that type is refused
  if (name == "expert_count" && file_->integer(key(name)) != 0)
    unsupported(name, "a mixture of experts");
  if (name.starts_with("expert_") && file_->integer(key("expert_count"), 0) == 0) return true;
  if (name == "attention.sliding_window" &&
      file_->integer(key(name)) >= file_->integer(key("context_length")))
    return true;
  if (const auto found = neutral.find(name); found != neutral.end())
    return file_->number(key(name)) == found->second;
  if (const auto found = neutral_truth.find(name); found != neutral_truth.end())
    return file_->boolean(key(name)) == found->second;
  return false;
}

// ---- writing ------------------------------------------------------------------------------------

std::string GgufKeyWriter::key(const std::string& name) const {
  return names_.architecture + "." + name;
}
void GgufKeyWriter::integer(const std::string& name, int64_t value) {
  out_.integer(key(name), uint32_t(value));
}
void GgufKeyWriter::number(const std::string& name, double value) {
  out_.number(key(name), value);
}
void GgufKeyWriter::text(const std::string& name, const std::string& value) {
  out_.text(key(name), value);
}
void GgufKeyWriter::tensor(const std::string& name, const std::vector<float>& values) {
  const int64_t count = int64_t(values.size());
  out_.tensor(name, {count}, GgufTensorType::f32,
              [values, count] { return Tensor::from<float>({count}, values); });
}
void GgufKeyWriter::refuse(bool given, const std::string& what) const {
  if (given)
    throw UserError(
        fmt::format("a GGUF file cannot express {} in a {} model: export it for "
                    "transformers instead (--export-hf)",
                    what, names_.type));
}

}  // namespace reverie
