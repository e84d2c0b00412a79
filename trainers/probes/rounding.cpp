#include "trainers/probes/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "layers/coprocessor/augmented_model.h"

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

}  // namespace

Rounding rounding_of(LanguageModel& model, int64_t length) {
  int64_t terms = std::max<int64_t>(1, length);
  int64_t products = 1 + matrices_in(model, terms);  // the head may be tied
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model))
    products += (1 + augmented->source().base_forwards()) * matrices_in(augmented->base(), terms);
  const DType dtype = model.head().dtype();
  const double unit = std::ldexp(1.0, dtype == DType::f64 ? -53 : dtype == DType::f32 ? -24 : -9);
  Rounding r;
  r.same_shape = double(products) * std::sqrt(double(terms)) * unit;
  r.other_shape = 8 * r.same_shape;
  r.text = fmt::format("{}, {} products of at most {} terms", name_of(dtype), products, terms);
  return r;
}

double allowed_in_mean(double bound, double largest_loss, double targets) {
  const double size = std::max(1.0, largest_loss);
  return 2 * bound * size / std::sqrt(targets) + targets * 0x1p-53 * size;
}

}  // namespace reverie
