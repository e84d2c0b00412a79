#include "layers/pretrained/plain_model.h"

#include "core/error.h"

namespace reverie {
namespace {

// W + scale B A, computed in f64. W [out, in] or, in GPT-2's layout, [in, out].
Tensor with_update(const Tensor& weight, const Tensor& a, const Tensor& b, double scale,
                   WeightLayout layout) {
  Tensor sum = weight.to(DType::f64).clone();
  double* w = sum.mutable_data<double>();
  const std::vector<double> left = b.to_vector(), right = a.to_vector();
  const int64_t rank = a.size(0), in = a.size(1), out = b.size(0);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t r = 0; r < rank; ++r) {
      const double by = scale * left[size_t(o * rank + r)];
      for (int64_t i = 0; i < in; ++i)
        w[layout == WeightLayout::out_in ? o * in + i : i * out + o] +=
            by * right[size_t(r * in + i)];
    }
  return sum;
}

}  // namespace

PlainModel plain_model(const LanguageModel& model, const Component& component) {
  if (const auto* around = dynamic_cast<const AroundPlainModel*>(&model))
    return {around->plain_model(), around->plain_component(), around->low_rank_scale()};
  const auto* transformer = dynamic_cast<const Transformer*>(&model);
  require(transformer != nullptr,
          "a \"{}\" model is none of another program's families: export its trained state alone "
          "(--export-state)",
          component.type);
  if (transformer->has_memory())
    throw UserError(fmt::format(
        "the model has a memory module ({}), which no other program knows: export its trained "
        "state alone (--export-state)",
        transformer->shape().memory.type));
  return {*transformer, component};
}

NamedTensors plain_state(const PlainModel& plain) {
  const std::string left = ".lora_b", right = ".lora_a";
  NamedTensors all;
  for (const auto& [name, t] : plain.model.state()) all.emplace_back(name, t.to(Device{}));
  const auto find = [&](const std::string& name) -> Tensor {
    for (const auto& [other, t] : all)
      if (other == name) return t;
    return {};
  };
  NamedTensors merged;
  for (const auto& [name, t] : all) {
    if (name.ends_with(left) || name.ends_with(right)) continue;
    const std::string layer = name.substr(0, name.rfind('.'));
    const Tensor a = name.ends_with(".weight") ? find(layer + right) : Tensor();
    if (a.defined() && plain.low_rank_scale == 0)
      throw InternalError(fmt::format("the scale of {}'s low-rank update is not known", name));
    merged.emplace_back(name, a.defined()
                                  ? with_update(t, a, find(layer + left), plain.low_rank_scale,
                                                plain.model.shape().layout)
                                  : t);
  }
  return merged;
}

}  // namespace reverie
