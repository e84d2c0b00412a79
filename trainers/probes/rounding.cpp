#include "trainers/probes/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "layers/coprocessor/augmented_model.h"
#include "layers/thinking_model.h"

namespace reverie {

namespace {

// Weight matrices, each a product at most.
int64_t matrices_in(const Module& module, int64_t& terms) {
  int64_t count = 0;
  for (const auto& [name, parameter] : module.parameters()) {
    const Shape& shape = parameter.shape();
    if (shape.rank() < 2) continue;
    ++count;
    terms = std::max(terms, std::min(shape[shape.rank() - 1], shape[shape.rank() - 2]));
  }
  return count;
}

// Thoughts of the text that has most.
int64_t most_thoughts(const Tensor& texts, int32_t thought) {
  const Tensor host = texts.to(Device{}).contiguous();
  const auto* id = host.data<int32_t>();
  int64_t most = 0;
  for (int64_t row = 0; row < host.size(0); ++row, id += host.size(1))
    most = std::max<int64_t>(most, std::count(id, id + host.size(1), thought));
  return most;
}

}  // namespace

Rounding rounding_of(LanguageModel& model, const Tensor& texts) {
  const auto thought = thought_token_of(model);
  return rounding_of(model, texts.size(1), thought ? most_thoughts(texts, *thought) : 0);
}

Rounding rounding_of(LanguageModel& model, int64_t length, int64_t thoughts) {
  int64_t terms = std::max<int64_t>(1, length);
  // The head may be tied.
  int64_t products = 1 + (1 + thoughts) * matrices_in(model, terms);
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model))
    products += (1 + augmented->source().base_forwards()) * matrices_in(augmented->base(), terms);
  const DType dtype = model.head().dtype();
  const double unit = std::ldexp(1.0, dtype == DType::f64 ? -53 : dtype == DType::f32 ? -24 : -9);
  Rounding r;
  r.same_shape = double(products) * std::sqrt(double(terms)) * unit;
  r.other_shape = 8 * r.same_shape;
  if (thought_token_of(model)) r.same_shape = r.other_shape;
  r.text = fmt::format("{}, {} products of at most {} terms", name_of(dtype), products, terms);
  return r;
}

double allowed_in_mean(double bound, double largest_loss, double targets) {
  const double size = std::max(1.0, largest_loss);
  return 2 * bound * size / std::sqrt(targets) + targets * 0x1p-53 * size;
}

}  // namespace reverie
