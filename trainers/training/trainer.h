#pragma once
// Training a language model: a loop that reads top to bottom, with five hooks.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/distributed/gradient_reducer.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/stored_run.h"
#include "trainers/runs/verdict.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/batches_ahead.h"
#include "trainers/training/callback.h"
#include "trainers/training/carried_memory.h"
#include "trainers/training/run_gate.h"

namespace reverie {

struct CheckpointContents;

struct RunControl {
  std::string run_directory;
  bool resume = false;                // go on from the newest whole checkpoint
  std::optional<int64_t> stop_after;  // save and stop (unfinished) after this many finished steps
  bool may_begin_anew = false;        // with `resume`: no warning where there is no checkpoint
  std::vector<Callback*> callbacks;   // in the order in which they are told
  // Ranks that train one model together, each with a Trainer of its own: the batch is split over
  // them, everything else is as in one process. Only the first writes the run directory. When a
  // Trainer throws, tell the others by abort().
  Communicator* communicator = &single_communicator();
};

enum class RunEnd { finished, stopped };

class Trainer : public RunView {
 public:
  // Opens the data, builds the model, asks the gate (ConfigError if it leaks and may not),
  // prepares the run directory or resumes from it. ConfigError, too, when ranks differ in config,
  // data or build.
  Trainer(const ExperimentOptions&, const RunControl&);
  virtual ~Trainer();
  // Trains to the end, saves the last checkpoint, then evaluates and writes summary.json; a leak
  // that an evaluation finds labels all that follows, and is for the caller to exit with
  // (verdict()). On SIGTERM, SIGHUP or SIGINT (under a SignalGuard) it saves a checkpoint, if the
  // newest is older, and returns `stopped`, also from inside an evaluation, which is then done
  // again when the run is resumed. A loss or gradient that is not finite throws DivergedError
  // naming the last good checkpoint; DataError when the token files were changed meanwhile,
  // MachineError when the run directory was moved or removed.
  RunEnd run();

  const ExperimentOptions& options() const override { return options_; }
  const Json& resolved_config() const override { return resolved_; }
  LanguageModel& model() const override { return *model_; }
  const Dataset& dataset() const override { return dataset_; }
  const std::string& run_directory() const override { return control_.run_directory; }
  int64_t step() const override { return step_; }
  Communicator& communicator() const override { return *control_.communicator; }
  const Verdict& verdict() const override { return gate_->verdict(); }
  double gate_seconds() const override { return gate_seconds_; }
  bool repeats_evaluation() const override {
    return evaluation_due_ || step_ >= options_.train.steps;
  }
  const std::vector<std::string>& config_changes() const override { return config_changes_; }
  // The signal that stops this run: the one this process got, or the one that ranks agreed on after
  // the last step. 0: none.
  int stop_signal() const;
  const Optimizer& optimizer() const { return *optimizer_; }
  const GradientReducer& reducer() const { return *reducer_; }

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
