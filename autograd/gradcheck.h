#pragma once
/// Gradients against central differences, in double.

#include <functional>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

struct GradcheckOptions {
  double step = 1e-6;         ///< of the central difference, relative to max(1, |x|)
  double tolerance = 1e-6;    ///< |analytic - numeric| <= tolerance * max(1, |numeric|, largest
                              ///< |numeric| of that input)
  uint64_t seed = 1;          ///< of the cotangents
  int64_t max_elements = 64;  ///< per input; beyond that a seeded sample is checked
  bool subsets = true;        ///< also: each input alone requiring a gradient gives the same one
};
struct GradcheckResult {
  bool ok = true;
  double worst = 0;     ///< largest error over its bound's scale
  std::string message;  ///< where and what, when not ok
};

using MultiFunction = std::function<std::vector<Variable>(const std::vector<Variable>&)>;

/// Checks d(<cotangents, function(inputs)>)/d(input) for every input of f64 tensors `inputs`, with
/// random cotangents. The function must be deterministic (seed default_generator() inside it if it
/// drops).
GradcheckResult gradcheck(const MultiFunction& function, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& = {});

}  // namespace reverie
