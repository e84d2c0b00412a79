#pragma once
// Training a language model: a loop that reads top to bottom, with five hooks.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/distributed/gradient_reducer.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/evaluation/verdict.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/batches_ahead.h"
#include "trainers/training/carried_memory.h"
#include "trainers/training/experiment.h"
#include "trainers/training/run_gate.h"
#include "trainers/training/stored_run.h"

namespace reverie {

class Trainer;
struct CheckpointContents;

struct StepInfo {
  int64_t step = 0;  // finished steps, this one included
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;  // target tokens since step 0
  double tokens_per_second = 0, seconds = 0;
};
struct EvaluationInfo {
  int64_t step = 0;
  double train_loss = 0, val_loss = 0, val_loss_prefix_only = 0;  // nats per token, eval mode
  double val_loss_same_windows =
      0;  // teacher-forced on exactly the windows of val_loss_prefix_only
  // Of a model with latents; the losses above are then its base's, of every token.
  std::optional<AugmentedResult> augmented_train, augmented_val;
  Json augmented_json() const;  // null without latents
};

// Observer of a run. Callbacks see everything and change nothing.
struct Callback {
  virtual ~Callback() = default;
  virtual void on_start(const Trainer&, int64_t first_step) {}
  virtual void on_step(const Trainer&, const StepInfo&) {}
  virtual void on_evaluation(const Trainer&, const EvaluationInfo&) {}
  virtual void on_sample(const Trainer&, int64_t step, const std::string& text) {}
  virtual void on_checkpoint(const Trainer&, const std::string& directory) {}
  virtual void on_end(const Trainer&) {}
};

struct RunControl {
  std::string run_directory;
  bool resume = false;                // go on from the newest whole checkpoint
  std::optional<int64_t> stop_after;  // save and stop (unfinished) after this many finished steps
  std::string context;                // for the progress line: "run 3/15"
  std::vector<Callback*> callbacks;   // besides metrics, TensorBoard and progress
  bool progress = true;
  // Of a table: how long its later runs will take, given the seconds of this one.
  std::function<double(double)> seconds_after = {};
  // Ranks that train one model together, each with a Trainer of its own: the batch is split over
  // them, everything else is as in one process. Only the first writes the run directory and has the
  // standard callbacks. When a Trainer throws, tell the others by abort().
  Communicator* communicator = &single_communicator();
};

enum class RunEnd { finished, stopped };

class Trainer {
 public:
  // Opens the data, builds the model, asks the gate (ConfigError if it leaks and may not),
  // prepares the run directory or resumes from it. ConfigError, too, when ranks differ in config,
  // data or build.
  Trainer(const ExperimentOptions&, const RunControl&);
  ~Trainer();
  // Trains to the end, saves the last checkpoint, then evaluates and writes summary.json; a leak
  // that an evaluation finds labels all that follows, and is for the caller to exit with
  // (verdict()). On SIGTERM, SIGHUP or SIGINT (under a SignalGuard) it saves a checkpoint, if the
  // newest is older, and returns `stopped`, also from inside an evaluation, which is then done
  // again when the run is resumed. A loss or gradient that is not finite throws DivergedError
  // naming the last good checkpoint; DataError when the token files were changed meanwhile,
  // MachineError when the run directory was moved or removed.
  RunEnd run();

  const ExperimentOptions& options() const { return options_; }
  const Json& resolved_config() const { return resolved_; }
  LanguageModel& model() const { return *model_; }
  const Dataset& dataset() const { return dataset_; }
  const std::string& run_directory() const { return control_.run_directory; }
  int64_t step() const { return step_; }
  // The signal that stops this run: the one this process got, or the one that ranks agreed on after
  // the last step. 0: none.
  int stop_signal() const;
  Communicator& communicator() const { return *control_.communicator; }
  const Optimizer& optimizer() const { return *optimizer_; }
  const GradientReducer& reducer() const { return *reducer_; }
  // What is known so far of whether its numbers mean what they say; grows at every evaluation.
  const Verdict& verdict() const { return gate_->verdict(); }
  bool leaks() const { return verdict().leaks(); }
  // How long the gate took before the first step.
  double gate_seconds() const { return gate_seconds_; }
  const RunControl& control() const { return control_; }
  const std::string& context() const { return control_.context; }
  // Whether the evaluation and sample of the step that was resumed at are still to come.
  bool repeats_evaluation() const { return evaluation_due_ || step_ >= options_.train.steps; }
  // What a resumed run's config has changed, as lines "$.train.steps: 1000 -> 2000".
  const std::vector<std::string>& config_changes() const { return config_changes_; }

 private:
  void check_agreement();
  void open_run_directory();
  void prepare_run_directory();
  void require_resumable(const std::string& config_file);
  void require_run_directory();
  void resume(const std::string& checkpoint);
  void check_side_tasks();
  bool train_to_the_end();
  void finish();
  void evaluate_and_sample();
  void note_best(double val_loss);
  StepInfo train_step();
  double backward_over_parts(int64_t batch_index, int64_t& targets);
  void prepare_part_after(size_t part, int64_t batch_index);
  EvaluationWindows windows_of(const TokenFile& tokens, int64_t count) const;
  EvaluationInfo evaluate_now(const char* what, int64_t windows, int64_t prefix_windows, bool last);
  std::unique_ptr<Sampler> make_sampler() const;
  void sample();
  void save_checkpoint();
  void write(CheckpointContents&);
  [[noreturn]] void diverged(const std::string& what) const;
  void write_summary(const EvaluationInfo&);
  template <class F>
  void notify(F&& f);

  ExperimentOptions options_;
  RunControl control_;
  Json resolved_;
  Dataset dataset_;
  BatchSplit split_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<FlatParameters> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<Sampler> sampler_;
  std::optional<BatchesAhead> batches_;
  std::optional<RunGate> gate_;
  double gate_seconds_ = 0;
  std::vector<std::unique_ptr<Callback>> own_callbacks_;
  CarriedMemory carried_;  // for models that carry memory
  int agreed_signal_ = 0;
  int64_t step_ = 0, tokens_ = 0;
  double seconds_ = 0;
  std::optional<std::string> last_checkpoint_;
  int64_t saved_step_ = -1;      // of the newest checkpoint
  bool evaluation_due_ = false;  // a signal came while this step was evaluated
  bool in_step_ = false;         // what a checkpoint holds is being changed
  struct Best {
    int64_t step = 0;
    double val_loss = 0;
  };
  std::optional<Best> best_;  // with checkpoint.keep_best
  std::vector<std::string> config_changes_;
  std::vector<int32_t> sample_prompt_;  // empty: there are no samples
  std::unique_ptr<FileLock> lock_;      // on the run directory, until run() ends; of the first rank
  const FileLock* held_ = nullptr;      // the same, during run()
};

}  // namespace reverie
