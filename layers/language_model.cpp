#include "layers/language_model.h"

#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"

namespace reverie {

Variable LanguageModel::logits(const Tensor& tokens, SequenceState* state) {
  return linear(hidden(tokens, state), head());
}
Variable LanguageModel::loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                             SequenceState* state) {
  return linear_cross_entropy(hidden(tokens, state), head(), targets.to(head().device()),
                              weight_per_target);
}

template <>
ModelRegistry& ModelRegistry::instance() {
  static ModelRegistry registry("model");
  return registry;
}

}  // namespace reverie
