#include "trainers/probes/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace reverie {

Rounding rounding_of(LanguageModel& model, int64_t length) {
  int64_t products = 1, terms = std::max<int64_t>(1, length);  // the head may be tied
  for (const auto& [name, parameter] : model.parameters()) {
    const Shape& shape = parameter.shape();
    if (shape.rank() < 2) continue;
    ++products;
    terms = std::max(terms, std::min(shape[shape.rank() - 1], shape[shape.rank() - 2]));
  }
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
