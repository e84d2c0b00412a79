#include "trainers/probes/probing_mode.h"

#include <algorithm>
#include <cmath>

#include "core/compact_weights.h"

namespace reverie {

void redraw_parameter(const std::string& name, const Variable& parameter, Generator& random) {
  const Shape& shape = parameter.shape();
  // A weight's layout is not known here; its larger size bounds the fan-in.
  double fan_in = 1;
  for (int i = 0; i < shape.rank(); ++i) fan_in = std::max(fan_in, double(shape[i]));
  const bool bias = name.ends_with("bias");
  const double mean = shape.rank() >= 2 || bias ? 0 : 1;
  Tensor target = parameter.tensor();
  target.copy_from(
      random.normal(shape, mean, shape.rank() >= 2 ? 1 / std::sqrt(fan_in) : 0.1, target.dtype())
          .to(target.device()));
}

RedrawnParameters::RedrawnParameters(Module& model,
                                     const std::function<bool(const Variable&)>& chosen) {
  Generator random(1);
  for (const auto& [name, parameter] : model.parameters()) {
    if (!chosen(parameter)) continue;
    const Tensor& values = parameter.tensor();
    if (is_compact(values)) {  // a write would widen it for good
      before_.emplace_back(parameter, values);
      Variable(parameter).set_tensor(
          Tensor::empty(parameter.shape(), parameter.dtype(), parameter.device()));
    } else {
      before_.emplace_back(parameter, values.clone());
    }
    redraw_parameter(name, parameter, random);
  }
}
RedrawnParameters::~RedrawnParameters() {
  for (auto& [parameter, values] : before_) {
    if (is_compact(values)) {
      parameter.set_tensor(values);
      continue;
    }
    Tensor target = parameter.tensor();
    target.copy_from(values);
  }
}

}  // namespace reverie
