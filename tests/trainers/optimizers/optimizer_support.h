#pragma once
// Optimizers over a few parameters that a test names.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "autograd/node.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "trainers/optimizers/optimizer.h"

namespace reverie::testing {

// Parameters of these names and shapes, normal, the same for every seed.
class Parameters final : public Module {
 public:
  Parameters(const std::vector<std::pair<std::string, Shape>>& shapes, DType dtype,
             uint64_t seed = 1) {
    Generator random(seed);
    for (const auto& [name, shape] : shapes)
      all.push_back(parameter(name, random.normal(shape, 0, 1, dtype)));
  }
  std::vector<Variable> all;
};

inline std::unique_ptr<Optimizer> make_optimizer(const Json& config, FlatParameters& parameters) {
  const OptimizerRegistry& registry = OptimizerRegistry::instance();
  return registry.make(resolve_component(registry, Config(config, "$.optimizer")), parameters);
}

// Leaves these gradients in the parameters, in their order.
inline void set_gradients(FlatParameters& flat, Parameters& parameters,
                          const std::vector<Tensor>& gradients) {
  flat.clear_gradients();
  for (size_t i = 0; i < gradients.size(); ++i)
    parameters.all[i].impl()->add_grad(gradients[i].clone());
}

}  // namespace reverie::testing
