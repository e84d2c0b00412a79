#include "trainers/evaluation/evaluate.h"

#include "autograd/ops/shape.h"
#include "core/error.h"

namespace reverie {
namespace {

// Adds up in double over batches; a batch's own sum comes from the loss kernel.
struct Total {
  double sum = 0;
  int64_t targets = 0;
  EvaluationResult mean() const {
    require(targets > 0, "there is no target in the evaluation windows");
    return {sum / double(targets), targets};
  }
};

}  // namespace

EvaluationResult evaluate(LanguageModel& model, const EvaluationWindows& windows) {
  const EvaluationMode mode(model);
  Total total;
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    total.sum += model.loss(batch.tokens, batch.targets, 1.0).tensor().item();
    total.targets += batch.target_count;
  }
  return total.mean();
}

EvaluationResult evaluate_prefix_only(LanguageModel& model, const EvaluationWindows& windows) {
  const EvaluationMode mode(model);
  Total total;
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    for (int64_t t = 1; t <= batch.tokens.size(1); ++t) {
      const Variable hidden = model.hidden(batch.tokens.slice(1, 0, t).contiguous());
      const Tensor targets = batch.targets.slice(1, t - 1, t).contiguous();
      total.sum += model.loss_of(slice(hidden, 1, t - 1, t), targets, 1.0).tensor().item();
    }
    total.targets += batch.target_count;
  }
  return total.mean();
}

}  // namespace reverie
