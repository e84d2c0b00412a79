#pragma once
/// The loss of a model on fixed windows of text: as it is trained, and as it would have to predict.

#include <functional>
#include <string>

#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"

namespace reverie {

class ForwardAudit;

/// While alive, the model is in eval mode (no dropout) and nothing is recorded; then its mode is
/// restored.
class EvaluationMode {
 public:
  explicit EvaluationMode(Module& model) : model_(model), was_training_(model.training()) {
    model_.train(false);
  }
  ~EvaluationMode() { model_.train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  NoGrad no_grad_;
  Module& model_;
  bool was_training_;
};

/// DivergedError naming `what` when a loss is infinite or no number: it is no result.
void require_finite(double loss, const std::string& what);

/// The sum of the losses of every token, nats, by the model's logits, or, with latents, its base's:
/// whatever loss() the model is trained with.
/// `audit` (may be null) audits the forward.
double loss_of_every_token(LanguageModel& model, const Tensor& tokens, const Tensor& targets,
                           ForwardAudit* audit = nullptr);

/// A collective. Interrupted, on all ranks, when a signal is pending on one: its share of the work is
/// undone.
void require_uninterrupted(Communicator& communicator);

/// How much of this rank's share is done.
using EvaluationProgress = std::function<void(int64_t done, int64_t all)>;

struct EvaluationResult {
  double loss = 0;      ///< mean cross entropy, nats per target
  int64_t targets = 0;  ///< how many were scored
};

/// Teacher-forced: one forward over each window scores all its targets, so that a model which reads
/// ahead sees what it predicts. Every window is a text of its own (no state is carried). A model
/// with latents is scored as its base, without them: see evaluate_augmented(). UserError when no
/// window has a target, DivergedError when the loss is not finite. Ranks share the batches of
/// windows, and all get the result, which is the one of a single rank.
/// Interrupted, on all ranks, when a signal is pending on one.
/// `audit` (may be null) audits some of the forwards.
EvaluationResult evaluate(LanguageModel& model, const EvaluationWindows& windows,
                          Communicator& communicator = single_communicator(),
                          const EvaluationProgress& progress = {}, ForwardAudit* audit = nullptr);

/// Prefix-only: the target at row t is scored from a forward over rows 0..t alone, as generation
/// would. The model is a black box here: no cache, no carried state. For a causal model it is the
/// same loss as evaluate()'s; T forwards a window instead of one.
EvaluationResult evaluate_prefix_only(LanguageModel& model, const EvaluationWindows& windows,
                                      Communicator& communicator = single_communicator(),
                                      const EvaluationProgress& progress = {});

}  // namespace reverie
