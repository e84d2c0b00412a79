#include "trainers/evaluation/evaluate.h"

#include <cmath>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/signals.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

// Adds up over batches, in double and in their order, whoever computed them; a batch's own sum
// comes from the loss kernel. `sum_of(batch)` is called for this rank's share.
template <class SumOf>
EvaluationResult mean_over(const EvaluationWindows& windows, Communicator& communicator,
                           const char* kind, SumOf&& sum_of) {
  const int64_t batches = windows.batch_count();
  Tensor sums = Tensor::zeros({batches, 2}, DType::f64);  // loss, targets
  for (int64_t i = communicator.rank(); i < batches && !pending_signal();
       i += communicator.size()) {
    const Batch batch = windows.batch(i);
    auto* at = sums.mutable_data<double>() + 2 * i;
    at[0] = sum_of(batch);
    at[1] = double(batch.target_count);
  }
  require_uninterrupted(communicator);
  communicator.all_reduce(sums, Reduction::sum);  // zeros where others have values
  double total = 0, targets = 0;
  for (int64_t i = 0; i < batches; ++i) {
    total += sums.data<double>()[2 * i];
    targets += sums.data<double>()[2 * i + 1];
  }
  require(targets > 0,
          "the evaluation windows hold no target: the text is too short, or every "
          "token is masked");
  require_finite(total, fmt::format("the {} loss of {} windows", kind, windows.window_count()));
  return {total / targets, int64_t(targets)};
}

// Batches of this rank.
int64_t share_of(const EvaluationWindows& windows, Communicator& communicator) {
  const int64_t ranks = communicator.size();
  return (windows.batch_count() - communicator.rank() + ranks - 1) / ranks;
}

}  // namespace

void require_finite(double loss, const std::string& what) {
  if (!std::isfinite(loss)) throw DivergedError(fmt::format("{} is {}: not finite", what, loss));
}

double loss_of_every_token(LanguageModel& model, const Tensor& tokens, const Tensor& targets,
                           ForwardAudit* audit) {
  auto* augmented = dynamic_cast<AugmentedModel*>(&model);
  LanguageModel& scored = augmented ? static_cast<LanguageModel&>(augmented->base()) : model;
  // Not loss(), which is handed the targets: a model of one's own may answer anything there.
  const Variable hidden = audit ? audit->hidden(scored, tokens) : scored.hidden(tokens);
  return scored.loss_of(hidden, targets, 1.0).tensor().item();
}

void require_uninterrupted(Communicator& communicator) {
  if (communicator.size() == 1) return stop_if_requested();
  for (const std::string& signal : communicator.all_gather(std::to_string(pending_signal())))
    if (signal != "0") throw Interrupted(std::stoi(signal));
}

EvaluationResult evaluate(LanguageModel& model, const EvaluationWindows& windows,
                          Communicator& communicator, const EvaluationProgress& progress,
                          ForwardAudit* audit) {
  const EvaluationMode mode(model);
  int64_t done = 0;
  const int64_t all = share_of(windows, communicator);
  return mean_over(windows, communicator, "teacher-forced", [&](const Batch& batch) {
    if (progress) progress(done, all);
    const bool audited = audit && audit->audits(done, all);
    ++done;
    return loss_of_every_token(model, batch.tokens, batch.targets, audited ? audit : nullptr);
  });
}

EvaluationResult evaluate_prefix_only(LanguageModel& model, const EvaluationWindows& windows,
                                      Communicator& communicator,
                                      const EvaluationProgress& progress) {
  const EvaluationMode mode(model);
  int64_t done = 0;
  const int64_t batches = share_of(windows, communicator);
  return mean_over(windows, communicator, "prefix-only", [&](const Batch& batch) {
    double sum = 0;
    for (int64_t t = 1; t <= batch.tokens.size(1) && !pending_signal(); ++t) {
      if (progress) progress(done++, batches * batch.tokens.size(1));
      const Variable hidden = model.hidden(batch.tokens.slice(1, 0, t).contiguous());
      const Tensor targets = batch.targets.slice(1, t - 1, t).contiguous();
      sum += model.loss_of(slice(hidden, 1, t - 1, t), targets, 1.0).tensor().item();
    }
    return sum;
  });
}

}  // namespace reverie
