#pragma once
/// The evaluations of a run: what they read, and what they find.

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/training/callback.h"
#include "trainers/training/run_gate.h"

namespace reverie {

class RunEvaluation {
 public:
  /// Keeps references to all of them. UserError where no window fits into the validation split.
  RunEvaluation(const ExperimentOptions&, LanguageModel&, const Dataset&, Communicator&);

  /// On the windows that are evaluated during training: the validation split's, and its loss.
  EvaluationWindows validation_windows() const;
  std::optional<ConsecutiveWindows> validation_texts() const {
    return carried_texts(data_, model_, options_.evaluation.batch_size,
                         options_.evaluation.windows);
  }
  double validation_loss() const;

  /// Losses of the model after `step` steps; the gate asks it in between, beside `carried` memory
  /// (may be null). A collective. `last`: on the windows of the final evaluation, and all that the
  /// gate can ask. DivergedError when a loss is not finite.
  EvaluationInfo run(RunGate&, int64_t step, const SequenceState* carried, bool last) const;

 private:
  EvaluationSplits splits(int64_t windows, int64_t prefix_windows) const;

  const ExperimentOptions& options_;
  LanguageModel& model_;
  const Dataset& data_;
  Communicator& communicator_;
};

}  // namespace reverie
