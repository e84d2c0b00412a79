#pragma once
/// Callbacks: observers of a run, and the view of it that they get.

#include <optional>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct StepInfo {
  int64_t step = 0;  ///< finished steps, this one included
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;  ///< target tokens since step 0
  double tokens_per_second = 0, seconds = 0;
};
struct EvaluationInfo {
  int64_t step = 0;
  double train_loss = 0, val_loss = 0, val_loss_prefix_only = 0;  ///< nats per token, eval mode
  double val_loss_same_windows =
      0;  ///< teacher-forced on exactly the windows of val_loss_prefix_only
  /// The losses behind latents, for a model with them; the losses above are then its base's.
  std::optional<AugmentedResult> augmented_train, augmented_val;
  Json augmented_json() const;         ///< null without latents
  std::vector<EntryLoss> val_entries;  ///< text by text, where validation is a mix
  /// Of validation, memory carried from window to window; absent where the model carries none.
  std::optional<CarriedResult> carried;
};

/// A run as callbacks see it.
class RunView {
 public:
  virtual const ExperimentOptions& options() const = 0;
  virtual const Json& resolved_config() const = 0;
  virtual LanguageModel& model() const = 0;
  virtual const Dataset& dataset() const = 0;
  virtual const std::string& run_directory() const = 0;
  virtual int64_t step() const = 0;  ///< finished steps
  virtual Communicator& communicator() const = 0;
  /// What is known so far of whether its numbers mean what they say; grows at every evaluation.
  virtual const Verdict& verdict() const = 0;
  /// How long the gate took before the first step.
  virtual double gate_seconds() const = 0;
  /// Whether the evaluation and sample of the step that was resumed at are still to come.
  virtual bool repeats_evaluation() const = 0;
  /// Changes of a resumed run's config, as lines "$.train.steps: 1000 -> 2000".
  virtual const std::vector<std::string>& config_changes() const = 0;

  bool leaks() const { return verdict().leaks(); }

 protected:
  ~RunView() = default;
};

/// Observer of a run. Callbacks see everything and change nothing. In on_step(), a rank of a run in
/// bf16 with a sharded optimizer has the f32 values of its own share of the matrices alone
/// (ShardedMasters).
struct Callback {
  virtual ~Callback() = default;
  /// In run(), before the first step; `first_step` > 0: the run was resumed.
  virtual void on_start(const RunView&, int64_t first_step) {}
  virtual void on_step(const RunView&, const StepInfo&) {}
  virtual void on_evaluation(const RunView&, const EvaluationInfo&) {}
  virtual void on_sample(const RunView&, int64_t step, const std::string& text) {}
  virtual void on_checkpoint(const RunView&, const std::string& directory) {}
  virtual void on_end(const RunView&) {}
};

}  // namespace reverie
