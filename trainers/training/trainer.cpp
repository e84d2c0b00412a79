#include "trainers/training/trainer.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/profile.h"
#include "core/random.h"
#include "core/signals.h"
#include "layers/frozen_base.h"
#include "trainers/distributed/agreement.h"
#include "trainers/runs/base_files.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"
#include "trainers/training/run_preparation.h"
#include "trainers/training/run_sampler.h"
#include "trainers/training/run_summary.h"

namespace reverie {
namespace {

constexpr int64_t kMostEmptyBatches = 1000;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whether it is time for what happens every `interval` steps (0: never).
bool is_multiple(int64_t step, int64_t interval) {
  return interval > 0 && step > 0 && step % interval == 0;
}

// A finished or running run is judged by its own config.
ExperimentOptions checked(const ExperimentOptions& options, const RunControl& control) {
  if (!control.resume || !is_run_directory(control.run_directory)) require_consistent(options);
  return options;
}

}  // namespace

Trainer::Trainer(const ExperimentOptions& options, const RunControl& control)
    : options_(checked(options, control)),
      control_(control),
      directory_(control.run_directory),
      dataset_(open_data(options.data, communicator())),
      split_(options, communicator().rank(), communicator().size()) {
  communicator().set_time_limit(options_.distributed.timeout_seconds);
  settle_vocabulary(options_, dataset_);
  settle_base(options_);
  resolved_ = write_config(options_);
  if (communicator().first()) require_free(directory_, resolved_, control.resume);
  require_same_run_on_all_ranks(
      communicator(), options_, dataset_,
      {{"resume", control.resume}, {"stop_after", control.stop_after.value_or(-1)}});
  warn_of_emulated_precision(options_);
  warn_of_windows_without_begin(options_, dataset_);
  options_.model = with_base_found(options_.model, directory_.path());
  build();
  require_base_of_run();
  ask_gate();  // before anything is written
  open();
}
Trainer::~Trainer() = default;

void Trainer::build() {
  model_ = make_run_model(options_);
  dataset_.require_vocabulary(model_->vocabulary_size());  // of a model that came with its own
  require_same_thoughts(*model_, dataset_);
  parameters_ = std::make_unique<FlatParameters>(
      *model_, communicator(), options_.distributed.shard_optimizer,
      options_.keeps_rounded_copies(communicator().size()));
  watch_.emplace(*parameters_);
  optimizer_ = OptimizerRegistry::instance().make(options_.optimizer, *parameters_);
  reducer_ = std::make_unique<GradientReducer>(
      parameters_->flat_gradients(), communicator(), split_.tree(), split_.exact(),
      int64_t(options_.distributed.bucket_megabytes * (1 << 20)));
  sampler_ = make_sampler(dataset_, *model_, options_.train.batch_size,
                          derive_seed(uint64_t(options_.seed), kBatches), options_.train.windows);
  gradient_.emplace(*model_, *sampler_, split_, *reducer_, communicator(),
                    options_.tensor_device());
  evaluation_.emplace(options_, *model_, dataset_, communicator());
  samples_.emplace(options_, *model_, dataset_, communicator());
  gate_ = std::make_unique<RunGate>(options_, *model_, *sampler_, split_, communicator());
  default_generator() = Generator(derive_seed(uint64_t(options_.seed), kDropout));
}

// Before the gate takes its time; restore() asks again, of the checkpoint that verifies.
void Trainer::require_base_of_run() {
  if (!control_.resume) return;
  if (const Json record = newest_base_record(directory_.path()); !record.is_null())
    require_recorded_base(*model_, {{kBaseKey, record}}, directory_.path());
}

void Trainer::ask_gate() {
  const Activity activity("probing causality");
  const double begin = now_seconds();
  gate_->ask_at_start(evaluation_->validation_windows(), evaluation_->validation_texts());
  gate_seconds_ = now_seconds() - begin;
}

// The first rank alone decides, and says from which checkpoint all go on.
void Trainer::open() {
  std::optional<StoredCheckpoint> newest;
  if (communicator().first()) {
    OpenedRun run = open_run(directory_, options_, resolved_, *optimizer_, control_.resume,
                             control_.may_begin_anew);
    config_changes_ = std::move(run.config_changes);
    newest = std::move(run.newest);
  }
  const std::string said = communicator().all_gather(newest ? newest->directory : "")[0];
  if (!said.empty()) {
    const Activity activity("reading " + said);
    if (!newest) newest = StoredCheckpoint{said, read_checkpoint(said)};
    restore(saved_parts(), *newest, directory_.path());
    last_checkpoint_ = said;
    saved_step_ = state_.step;
  }
  if (communicator().first()) gate_->keep_leaks_in(directory_.path());
  share_weights();
  if (!communicator().first()) return;
  if (last_checkpoint_)
    tidy_checkpoints(directory_.path(), state_.step, options_.checkpoint.keep, state_.best_step());
  describe_run(directory_, options_, resolved_, dataset_, state_.step);
  if (!last_checkpoint_) keep_initial_base(*model_, options_.model, directory_.path());
  if (options_.checkpoint.self_contained) copy_base(*model_, directory_.path());
}

// Ranks begin with the first one's weights. A frozen base is not sent: each has opened the same one.
void Trainer::share_weights() {
  if (communicator().size() == 1) return;
  NamedTensors all = model_->state();
  if (const FrozenBase* base = frozen_base_of(*model_)) {
    require_same_hash(communicator(), "the frozen base " + base->path, base->hash);
    all = weights_beside(*base, all);
  }
  for (auto& [name, values] : all) communicator().broadcast(values, 0);
}

SavedParts Trainer::saved_parts() {
  return {options_,    resolved_,      dataset_,
          split_,      communicator(), *model_,
          *optimizer_, *sampler_,      gradient_->carried(),
          *gate_,      state_};
}

int Trainer::stop_signal() const {
  return communicator().size() == 1 ? requested_signal() : agreed_signal_;
}

RunEnd Trainer::run() {
  const RunDirectory::UnlockAtEnd unlock_at_end(directory_);
  notify([&](Callback& c) { c.on_start(*this, state_.step); });
  RunEnd end = RunEnd::finished;
  try {
    watch_->note();
    if (state_.evaluation_due) evaluate_and_sample();
    while (state_.step < options_.train.steps) {
      const bool stop =
          stop_signal() != 0 || (control_.stop_after && state_.step >= *control_.stop_after);
      if (stop || is_multiple(state_.step, options_.checkpoint.interval)) save_checkpoint();
      if (stop) {
        end = RunEnd::stopped;
        break;
      }
      const StepInfo info = train_step();
      notify([&](Callback& c) { c.on_step(*this, info); });
      if (watched()) watch_->note();  // on_step() may have changed what is not sharded
      evaluate_and_sample();
    }
    if (end == RunEnd::finished) finish();
  } catch (const Interrupted& i) {  // out of an evaluation or a sample, on all ranks
    agreed_signal_ = i.signal;
    save_checkpoint();
    end = RunEnd::stopped;
  } catch (const MachineError&) {
    save_what_was_trained();
    throw;
  }
  notify([&](Callback& c) { c.on_end(*this); });
  return end;
}

StepInfo Trainer::train_step() {
  in_step_ = true;
  const double begin = now_seconds();
  const profile::Scope profiled(profile::Kind::step, "step");
  const MatmulPrecisionScope precision(options_.matmul_precision());
  model_->train(true);
  parameters_->round_matrices();
  parameters_->clear_gradients();
  const auto [loss, targets, signal] = gradient_of_next_batch();
  agreed_signal_ = signal;
  const profile::Scope phase(profile::Kind::step, "optimizer");
  const double norm = parameters_->gradient_norm();
  require_finite_step(loss, norm, sampler_->position() - 1);
  ask_weights(fmt::format("between the updates of steps {} and {}", state_.step, state_.step + 1));
  watch_->forget();
  const double rate = optimizer_->learning_rate(state_.step, options_.train.steps);
  optimizer_->step(rate, norm);
  const double elapsed = now_seconds() - begin;
  ++state_.step;
  state_.tokens += targets;
  state_.seconds += elapsed;
  in_step_ = false;
  return {.step = state_.step,
          .loss = loss,
          .gradient_norm = norm,
          .learning_rate = rate,
          .tokens = state_.tokens,
          .tokens_per_second = double(targets) / elapsed,
          .seconds = state_.seconds};
}

// A batch of a task may hold no answer, such as the first windows of documents that ask for facts of
// earlier ones. It is read for the memory that it leaves, and the step learns from the batch behind.
BatchGradient::Result Trainer::gradient_of_next_batch() {
  for (int64_t empty = 0; empty < kMostEmptyBatches; ++empty) {
    const int64_t index = sampler_->position();
    // Only memory that goes on makes more than one of them worth a forward.
    const bool read = empty == 0 || model_->carries_memory() || sampler_->target_count(index) > 0;
    const BatchGradient::Result result =
        read ? gradient_->compute(index, state_.step + 1 >= options_.train.steps)
             : BatchGradient::Result{};
    sampler_->seek(index + 1);
    if (result.targets > 0) return result;
  }
  communicator().fail_together();  // ranks count the same answers
  throw DataError(
      fmt::format("{} batches in a row, up to batch {}, have nothing to learn from: no token of "
                  "them is an answer. Set $.data.generated.loss to \"all\", or ask for more "
                  "answers",
                  kMostEmptyBatches, sampler_->position() - 1));
}

void Trainer::require_finite_step(double loss, double norm, int64_t batch) const {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  communicator().fail_together();  // ranks have the same loss and norm
  diverged(
      fmt::format("step {}: loss {} and gradient norm {} are not both finite (batch {}); the "
                  "weights were not changed by this step",
                  state_.step + 1, loss, norm, batch));
}

// A collective where they were noted, which all ranks do at the same steps.
void Trainer::ask_weights(const std::string& during) {
  if (!watch_->noted()) return;
  gate_->add(agreed_verdict(watch_->ask(during, state_.step), communicator()));
}

// Whether each rank notes the weights that it keeps behind this step: nothing but the optimizer
// may change them until the next. ShardedMasters::begin_step() refuses such changes at every step.
bool Trainer::watched() const {
  return state_.step % WeightWatch::kInterval == 0 || state_.step >= options_.train.steps ||
         is_multiple(state_.step, options_.evaluation.interval);
}

// Where the step is one of those.
void Trainer::evaluate_and_sample() {
  const auto due = [&](int64_t interval) {
    return is_multiple(state_.step, interval) && state_.step < options_.train.steps;
  };
  const bool evaluates = due(options_.evaluation.interval), samples = due(options_.sample.interval);
  state_.evaluation_due = evaluates || samples;
  if (state_.evaluation_due) parameters_->gather_values();
  if (evaluates) {
    const EvaluationInfo e = evaluate_now(false);
    notify([&](Callback& c) { c.on_evaluation(*this, e); });
    if (options_.checkpoint.keep_best)
      state_.note_val_loss(e.augmented_val ? e.augmented_val->loss : e.val_loss);
  }
  if (samples) sample();
  state_.evaluation_due = false;
  if (state_.is_best()) save_checkpoint();
}

EvaluationInfo Trainer::evaluate_now(bool last) {
  try {
    EvaluationInfo e =
        evaluation_->run(*gate_, state_.step, gradient_->carried_of_first_part(), last);
    ask_weights(fmt::format("the evaluation after step {}", state_.step));
    return e;
  } catch (const DivergedError& error) {
    communicator().fail_together();  // ranks have the same losses
    diverged(fmt::format("step {}: {}", state_.step, error.what()));
  }
}

void Trainer::sample() {
  if (!communicator().first()) return;
  const Activity activity("writing a sample");
  const std::string text = samples_->write(state_.step);
  notify([&](Callback& c) { c.on_sample(*this, state_.step, text); });
}

// After the last step. A run that is resumed here does all of it again.
void Trainer::finish() {
  parameters_->gather_values();
  save_checkpoint();  // before anything that may fail
  if (options_.checkpoint.keep_best && !state_.is_best()) {
    state_.note_val_loss(evaluation_->validation_loss());
    if (state_.is_best()) save_again();
  }
  const Json before = verdict().json();
  const EvaluationInfo last = evaluate_now(true);
  if (verdict().json() != before) save_again();  // the weights carry what is known of them
  notify([&](Callback& c) { c.on_evaluation(*this, last); });
  sample();
  if (communicator().first()) {
    require_run_directory();
    directory_.write(kSummaryFile, run_summary(*this, state_, last, gate_->largest_change(),
                                               numerics_of(saved_parts())));
  }
  communicator().barrier();
}

// The run directory may have been moved or removed under the run, its tokens changed.
void Trainer::require_run_directory() {
  dataset_.train.require_unchanged();
  dataset_.validation.require_unchanged();
  if (directory_.in_place()) return;
  const std::string before = directory_.path();
  if (!directory_.follow()) {
    in_step_ = true;  // there is no place for what was trained
    throw MachineError(fmt::format(
        "the run directory {} was removed during the run, so nothing can be saved", before));
  }
  save_checkpoint();
  throw MachineError(
      fmt::format("the run directory {} was moved to {} during the run; the checkpoint of step "
                  "{} is there: continue with --run-dir {} --resume",
                  before, directory_.path(), state_.step, directory_.path()));
}

// Once for a step.
void Trainer::save_checkpoint() {
  if (saved_step_ == state_.step) return;
  const Activity activity("saving a checkpoint");
  parameters_->gather_values();
  if (communicator().first()) require_run_directory();
  in_step_ = true;
  // A checkpoint of weights that are not numbers would replace one that is worth keeping.
  if (!parameters_->finite()) {
    communicator().fail_together();
    diverged(fmt::format("step {}: the weights are not all finite", state_.step));
  }
  if (communicator().size() > 1)
    require_same_hash(communicator(), fmt::format("the weights after step {}", state_.step),
                      model_->weights_hash() + parameters_->hash_of_copies());
  const CheckpointContents contents = checkpoint_contents(saved_parts());
  if (communicator().first()) {
    last_checkpoint_ = write_checkpoint(directory_.path(), state_.step, contents,
                                        options_.checkpoint.keep, state_.best_step());
    notify([&](Callback& c) { c.on_checkpoint(*this, *last_checkpoint_); });
  }
  communicator().barrier();  // nobody goes on, or ends, before it is on disk
  saved_step_ = state_.step;
  in_step_ = false;
}

// The same weights, of which more is known now.
void Trainer::save_again() {
  saved_step_ = -1;
  save_checkpoint();
}

// An output failed between two steps: what was trained is whole, and may still find a place.
void Trainer::save_what_was_trained() {
  if (in_step_ || communicator().size() > 1) return;
  try {
    save_checkpoint();
  } catch (const Error&) {  // the first error is the one to report
  }
}

void Trainer::diverged(const std::string& what) const {
  throw DivergedError(
      fmt::format("{}. {}. Try a lower learning rate, more warmup, or look at the data", what,
                  last_checkpoint_ ? "The last good checkpoint is " + *last_checkpoint_
                                   : "There is no checkpoint yet"));
}

}  // namespace reverie
