#pragma once
/// Training a language model: a loop that reads top to bottom, with five hooks.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trainers/runs/run_directory.h"
#include "trainers/training/batch_gradient.h"
#include "trainers/training/callback.h"
#include "trainers/training/run_checkpoint.h"
#include "trainers/training/run_evaluation.h"
#include "trainers/training/run_gate.h"
#include "trainers/training/run_opening.h"
#include "trainers/training/run_state.h"
#include "trainers/training/sample_writer.h"
#include "trainers/training/weight_watch.h"

namespace reverie {

struct RunControl {
  std::string run_directory;
  bool resume = false;                ///< go on from the newest whole checkpoint
  std::optional<int64_t> stop_after;  ///< save and stop (unfinished) after this many finished steps
  bool may_begin_anew = false;        ///< with `resume`: no warning where there is no checkpoint
  std::vector<Callback*> callbacks;   ///< in the order in which they are told
  /// Ranks that train one model together, each with a Trainer of its own: the batch is split over
  /// them, everything else is as in one process. Only the first writes the run directory. When a
  /// Trainer throws, tell the others by abort().
  Communicator* communicator = &single_communicator();
};

enum class RunEnd { finished, stopped };

class Trainer : public RunView {
 public:
  /// Opens the data, builds the model, asks the gate (ConfigError if it leaks and may not),
  /// prepares the run directory or resumes from it. ConfigError, too, when ranks differ in config,
  /// data or build.
  Trainer(const ExperimentOptions&, const RunControl&);
  virtual ~Trainer();
  /// Trains to the end, saves the last checkpoint, then evaluates and writes summary.json; a leak
  /// that an evaluation finds labels all that follows, and is for the caller to exit with
  /// (verdict()). On SIGTERM, SIGHUP or SIGINT (under a SignalGuard) it saves a checkpoint, if the
  /// newest is older, and returns `stopped`, also from inside an evaluation, which is then done
  /// again when the run is resumed. A loss or gradient that is not finite throws DivergedError
  /// naming the last good checkpoint; DataError when the token files were changed meanwhile,
  /// MachineError when the run directory was moved or removed.
  RunEnd run();

  const ExperimentOptions& options() const override { return options_; }
  const Json& resolved_config() const override { return resolved_; }
  LanguageModel& model() const override { return *model_; }
  const Dataset& dataset() const override { return dataset_; }
  const std::string& run_directory() const override { return directory_.path(); }
  int64_t step() const override { return state_.step; }
  Communicator& communicator() const override { return *control_.communicator; }
  const Verdict& verdict() const override { return gate_->verdict(); }
  double gate_seconds() const override { return gate_seconds_; }
  bool repeats_evaluation() const override {
    return state_.evaluation_due || state_.step >= options_.train.steps;
  }
  const std::vector<std::string>& config_changes() const override { return config_changes_; }
  /// The signal that stops this run: the one this process got, or the one that ranks agreed on after
  /// the last step. 0: none.
  int stop_signal() const;
  const Optimizer& optimizer() const { return *optimizer_; }
  const GradientReducer& reducer() const { return *reducer_; }

 private:
  void build();
  void require_base_of_run();
  void ask_gate();
  void share_weights();
  void open();

  StepInfo train_step();
  BatchGradient::Result gradient_of_next_batch();
  void require_finite_step(double loss, double norm, int64_t batch) const;
  void evaluate_and_sample();
  EvaluationInfo evaluate_now(bool last);
  bool watched() const;
  void ask_weights(const std::string& during);
  void sample();
  void finish();
  void save_checkpoint();
  void save_again();
  void save_what_was_trained();
  void require_run_directory();
  [[noreturn]] void diverged(const std::string& what) const;
  SavedParts saved_parts();
  template <class F>
  void notify(F&& f) {
    for (Callback* c : control_.callbacks) f(*c);
  }

  ExperimentOptions options_;
  RunControl control_;
  RunDirectory directory_;
  Json resolved_;
  Dataset dataset_;
  BatchSplit split_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<FlatParameters> parameters_;
  std::optional<WeightWatch> watch_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<Sampler> sampler_;
  std::optional<BatchGradient> gradient_;
  std::optional<RunEvaluation> evaluation_;
  std::optional<SampleWriter> samples_;
  std::unique_ptr<RunGate> gate_;
  double gate_seconds_ = 0;
  RunState state_;
  std::vector<std::string> config_changes_;
  std::optional<std::string> last_checkpoint_;
  int64_t saved_step_ = -1;  ///< of the newest checkpoint
  bool in_step_ = false;     ///< what a checkpoint holds is being changed
  int agreed_signal_ = 0;
};

}  // namespace reverie
