#pragma once
/// The gate of a run: what is asked before the first step and at every evaluation, and the verdict
/// that grows from it.

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/evaluation/canary.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/probes/gate_effort.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/verdict.h"
#include "trainers/training/batch_split.h"

namespace reverie {

class RunGate {
 public:
  /// Keeps references to all of them. A collective, as all that ask.
  RunGate(const ExperimentOptions&, LanguageModel&, const Sampler&, const BatchSplit&,
          Communicator&);

  /// Asks a copy of the architecture with redrawn weights (probe_architecture()), then the live model
  /// with its own weights and with redrawn ones, at the sizes of training and of evaluation. A large
  /// model is asked in short forms (gate_effort.h), and the verdict lists what was left out. `texts`:
  /// of a model whose memory is carried. ConfigError, before anything is written, where it leaks and
  /// the config does not allow it.
  void ask_at_start(const EvaluationWindows& validation,
                    const std::optional<ConsecutiveWindows>& texts = std::nullopt);

  /// Scores `prefix` windows prefix by prefix, and asks the live model: in eval mode on a batch of
  /// `validation`, in train mode on the rows of the next training step, beside `carried` memory (may
  /// be null). Few cuts at a time, other ones at each evaluation; `last`: all of them, and a copy of
  /// the trained weights in f64, unless the model is large. Warns when a leak is found that was not
  /// known.
  /// `audited`: what the audit of this evaluation's own forwards found.
  PrefixScores ask_at_evaluation(const EvaluationWindows& validation,
                                 const EvaluationWindows& prefix, const SequenceState* carried,
                                 int64_t step, bool last, const Verdict& audited = {});
  /// The audit of the evaluation after `step` steps.
  ForwardAudit audit_at(int64_t step) const { return {step, turn_at(step), communicator_.size()}; }

  /// From now on every leak is kept in this run directory as soon as it is found; what is kept there
  /// already counts. For the first rank, the only one that writes.
  void keep_leaks_in(const std::string& run_directory);
  /// Takes a verdict that all ranks agree on. Warns of a leak that was not known.
  void add(const Verdict& found);
  /// What an earlier process found out about this run.
  void remember(const Verdict& earlier) { verdict_.merge(earlier); }
  const Verdict& verdict() const { return verdict_; }
  /// How far later tokens moved a logit: at the end, in f64 (of a large model: in the live one),
  /// where nothing leaks; else by the gravest leak.
  double largest_change() const;

 private:
  int64_t turn_at(int64_t step) const {
    return step / std::max<int64_t>(1, options_.evaluation.interval);
  }
  /// Rows of a training step as this rank has them; `ahead` batches later.
  Tensor training_rows(int64_t ahead) const;
  /// One moment at which the live model is asked; `all`: every cut, where that is not too much.
  struct Occasion {
    int64_t step = 0, turn = 0;
    GateMoment moment = GateMoment::start;
    bool all = false;
  };
  Verdict ask_live(const EvaluationWindows& validation, const SequenceState* carried,
                   const Occasion&);
  Verdict ask_rows(const Tensor& rows, const Tensor& donors, const SequenceState* carried,
                   const Occasion&, bool train);
  Verdict ask_one_row(const Tensor& rows, const Tensor& donors, const Occasion&);
  Verdict ask_validation(const EvaluationWindows& validation, bool carries, const Occasion&);
  Verdict audit_first_forwards(const EvaluationWindows& validation,
                               const std::optional<ConsecutiveWindows>& texts = std::nullopt);
  Verdict ask_live_latents(class AugmentedModel&, const Occasion&);
  Verdict ask_start_of_latents(class AugmentedModel&, const EvaluationWindows& validation);
  Verdict ask_start_live(const EvaluationWindows& validation,
                         const std::optional<ConsecutiveWindows>& texts);
  /// The trained weights in f64 (of the first rank), or a note that there was no such copy.
  Verdict ask_trained_copy(int64_t step);
  /// Whether so many forwards of the rows of training steps may be made at this moment.
  bool in_full(const Tensor& rows, int64_t forwards, GateMoment moment) const;

  const ExperimentOptions& options_;
  LanguageModel& model_;
  const Sampler& sampler_;
  const BatchSplit& split_;
  Communicator& communicator_;
  Verdict verdict_;
  std::string run_directory_;
  std::optional<double> trained_change_;  ///< of the first rank, at the end
};

}  // namespace reverie
