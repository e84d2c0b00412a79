#include "layers/language_model.h"

#include "autograd/ops/elementwise.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"

namespace reverie {

Variable LanguageModel::logits_of(const Variable& hidden) const {
  return softcap(linear(hidden, head()), logit_softcap());
}
Variable LanguageModel::loss_of(const Variable& hidden, const Tensor& targets,
                                double weight_per_target) const {
  return linear_cross_entropy(hidden, head(), targets.to(head().device()), weight_per_target,
                              logit_softcap());
}
Variable LanguageModel::logits(const Tensor& tokens, SequenceState* state) {
  return logits_of(hidden(tokens, state));
}
Variable LanguageModel::loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                             SequenceState* state) {
  return loss_of(hidden(tokens, state), targets, weight_per_target);
}

template <>
ModelRegistry& ModelRegistry::instance() {
  static ModelRegistry registry("model");
  return registry;
}

}  // namespace reverie
