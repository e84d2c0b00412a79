#include "layers/language_model.h"

#include "autograd/ops/elementwise.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/shape.h"
#include "core/error.h"

namespace reverie {

Variable LanguageModel::logits_of(const Variable& hidden) const {
  return softcap(linear(hidden, head()), logit_softcap());
}
Variable LanguageModel::loss_of(const Variable& hidden, const Tensor& targets,
                                double weight_per_target) const {
  const auto of_rows = [&](const Variable& rows, const Tensor& wanted) {
    return linear_cross_entropy(rows, head(), wanted.to(head().device()), weight_per_target,
                                logit_softcap());
  };
  require(targets.dtype() == DType::i32 && hidden.rank() >= 1 &&
              targets.numel() * hidden.size(-1) == hidden.tensor().numel(),
          "a loss wants one target i32 a row, got {} for hidden states {}", targets,
          hidden.tensor());
  // The head may be larger than all the rest: it sees no row that has nothing to predict.
  const Tensor all = targets.to(Device{}).contiguous();
  std::vector<int32_t> rows, wanted;
  for (int64_t i = 0; i < all.numel(); ++i)
    if (const int32_t target = all.data<int32_t>()[i]; target != -1) {
      rows.push_back(int32_t(i));
      wanted.push_back(target);
    }
  const int64_t n = int64_t(rows.size());
  if (n == 0 || n == all.numel()) return of_rows(hidden, targets);
  return of_rows(embedding(Tensor::from<int32_t>({1, n}, rows).to(hidden.device()),
                           reshape(hidden, {all.numel(), hidden.size(-1)})),
                 Tensor::from<int32_t>({1, n}, wanted));
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
