#include "trainers/training/trainer.h"

#include <omp.h>

#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/profile.h"
#include "core/random.h"
#include "core/signals.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "trainers/distributed/agreement.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/evaluation/generate.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/resumption.h"
#include "trainers/text/activity.h"
#include "trainers/training/step_votes.h"

namespace reverie {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Ranks may share a disk, so that only the first prepares what is missing.
Dataset open_in_turn(const DataOptions& options, Communicator& communicator) {
  Activity activity("opening the data");
  if (!communicator.first()) communicator.barrier();
  Dataset dataset = prepare_and_open(options, [&](int64_t done, int64_t total) {
    activity.reach(done, total);
    stop_if_requested();
  });
  if (communicator.first()) communicator.barrier();
  return dataset;
}

// A finished or running run is judged by its own config.
ExperimentOptions checked(const ExperimentOptions& options, const RunControl& control) {
  const bool goes_on =
      control.resume && std::filesystem::exists(file_in(control.run_directory, kConfigFile));
  if (!goes_on) require_consistent(options);
  return options;
}

}  // namespace

Trainer::Trainer(const ExperimentOptions& options, const RunControl& control)
    : options_(checked(options, control)),
      control_(control),
      dataset_(open_in_turn(options.data, communicator())),
      split_(options, communicator().rank(), communicator().size()) {
  communicator().set_time_limit(options_.distributed.timeout_seconds);
  // A vocabulary of 0 means the data's; anything else must hold the data's tokens.
  if (model_field(options_.model, "vocab_size", -1) == 0)
    options_.model = with_model_field(options_.model, "vocab_size", dataset_.vocabulary_size());
  dataset_.require_vocabulary(
      model_field(options_.model, "vocab_size", dataset_.vocabulary_size()));
  resolved_ = write_config(options_);
  require(communicator().takes(options_.tensor_device()),
          "$.device is {}, and ranks that exchange over {} take no tensors there: wanted those of "
          "communicator_on()",
          options_.device, communicator().kind());
  check_agreement();

  if (options_.matmul_precision() == MatmulPrecision::bf16 && !has_bf16_dot_products())
    log_warning(
        "precision bf16: this machine or build has no bf16 dot products (AVX512_BF16, oneDNN), so "
        "operands are rounded to bf16 and multiplied in f32: the same results, but slower than "
        "precision f32");
  model_ = make_run_model(options_);
  dataset_.require_vocabulary(model_->vocabulary_size());  // of a model that came with its own
  parameters_ = std::make_unique<FlatParameters>(*model_, communicator(),
                                                 options_.distributed.shard_optimizer);
  optimizer_ = OptimizerRegistry::instance().make(options_.optimizer, *parameters_);
  reducer_ = std::make_unique<GradientReducer>(
      parameters_->flat_gradients(), communicator(), split_.tree(), split_.exact(),
      int64_t(options_.distributed.bucket_megabytes * (1 << 20)));
  sampler_ = make_sampler();
  batches_.emplace(*sampler_, options_.tensor_device());
  carried_.clear(split_);
  check_side_tasks();
  default_generator() = Generator(derive_seed(uint64_t(options_.seed), kDropout));
  // The gate comes before anything is written.
  gate_.emplace(options_, *model_, *sampler_, split_, communicator());
  {
    const Activity activity("probing causality");
    const double begin = now_seconds();
    gate_->ask_at_start(windows_of(dataset_.validation, options_.evaluation.windows));
    gate_seconds_ = now_seconds() - begin;
  }
  open_run_directory();
}
Trainer::~Trainer() = default;

std::unique_ptr<Sampler> Trainer::make_sampler() const {
  const int64_t batch = options_.train.batch_size, block = model_->block_size();
  const uint64_t seed = derive_seed(uint64_t(options_.seed), kBatches);
  if (dataset_.examples) {
    require(dataset_.examples->length <= block + 1,
            "the longest example takes {} rows, the model's block_size is {}",
            dataset_.examples->length - 1, block);
    require(!model_->carries_memory(), "examples are no text in which memory could go on");
    return std::make_unique<RandomExampleSampler>(dataset_.train, *dataset_.examples, batch, seed);
  }
  if (model_->carries_memory())
    return std::make_unique<SequentialSampler>(dataset_.train, batch, block);
  return std::make_unique<RandomWindowSampler>(dataset_.train, batch, block, seed);
}

template <class F>
void Trainer::notify(F&& f) {
  for (Callback* c : control_.callbacks) f(*c);
}

int Trainer::stop_signal() const {
  return communicator().size() == 1 ? requested_signal() : agreed_signal_;
}

void Trainer::check_agreement() {
  require_same_on_all_ranks(
      communicator(),
      {{"build", build_commit()},
       {"config", resolved_},
       {"data", dataset_.hash},
       {"kernels",
        {{"isa", std::string(name_of(active_isa()))}, {"matmul_library", matmul_library()}}},
       {"command",
        {{"resume", control_.resume}, {"stop_after", control_.stop_after.value_or(-1)}}}});
}

void Trainer::open_run_directory() {
  // The first rank alone decides, and says from which checkpoint all go on.
  if (communicator().first()) {
    prepare_run_directory();
    communicator().all_gather(last_checkpoint_.value_or(""));
  } else if (const auto said = communicator().all_gather(std::string()); !said[0].empty()) {
    last_checkpoint_ = said[0];
  }
  if (last_checkpoint_) resume(*last_checkpoint_);
  saved_step_ = last_checkpoint_ ? step_ : -1;
  for (auto& [name, parameter] : model_->parameters()) {
    Tensor values = parameter.tensor();
    communicator().broadcast(values, 0);
  }
  if (!communicator().first()) return;
  if (last_checkpoint_)
    tidy_checkpoints(control_.run_directory, step_, options_.checkpoint.keep,
                     best_ ? std::optional(best_->step) : std::nullopt);
  const std::string summary = file_in(control_.run_directory, kSummaryFile);
  if (run_finished(control_.run_directory) && step_ < options_.train.steps)  // it gets longer
    rename_durably(
        summary, file_in(control_.run_directory, fmt::format("summary.step_{:08}.json", step_).c_str()));
  write_file_atomically(file_in(control_.run_directory, kConfigFile),
                        json_text(resolved_, 2) + "\n");
  write_file_atomically(file_in(control_.run_directory, "dataset.json"),
                        json_text(dataset_.provenance, 2) + "\n");
  if (dataset_.tokenizer) dataset_.tokenizer->save(control_.run_directory);
}

void Trainer::prepare_run_directory() {
  namespace fs = std::filesystem;
  const std::string& directory = control_.run_directory;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error)
    throw MachineError(
        fmt::format("cannot make the run directory {}: {}", directory, error.message()));
  try {
    lock_ = std::make_unique<FileLock>(file_in(directory, kLockFile), "run directory " + directory);
  } catch (const UserError& e) {
    throw UserError(fmt::format(
        "{}: both would write the same checkpoints. Wait for it, stop it, or give another "
        "--run-dir",
        e.what()));
  }
  const std::string config_file = file_in(directory, kConfigFile);
  if (fs::exists(config_file)) require_resumable(config_file);
  if (!control_.resume) return;
  last_checkpoint_ = latest_checkpoint(directory);
  if (!last_checkpoint_ && !control_.may_begin_anew)
    log_warning("--resume: {} holds no checkpoint{}: the run begins anew, at step 0", directory,
                fs::exists(config_file) ? " yet" : ", nor any run");
  if (const auto damaged = checkpoints_of(directory); !last_checkpoint_ && !damaged.empty())
    throw DataError(
        fmt::format("none of the {} checkpoints of {} is whole (the warnings above say why); to "
                    "begin anew, move the run directory away",
                    damaged.size(), directory));
}

void Trainer::require_resumable(const std::string& config_file) {
  const std::string& directory = control_.run_directory;
  const Json before = in_todays_form(Config::from_file(config_file).json(), directory);
  if (const auto differences = obstacles_to_resuming(before, resolved_); !differences.empty()) {
    std::string list;
    for (const auto& d : differences) list += "\n  " + d;
    throw ConfigError(fmt::format(
        "{} holds a run of another config; use another --run-dir, or undo these changes (a resumed "
        "run may get longer, and change its evaluation, sample and checkpoint):{}",
        directory, list));
  }
  if (!control_.resume)
    throw ConfigError(
        fmt::format("{} holds a run of this config already: give --resume to go on with it, or "
                    "another --run-dir",
                    directory));
  config_changes_ = config_differences(before, resolved_);
  for (const auto& change : config_changes_) log_info("resuming with {}", change);
  const int64_t steps = before.at("train").at("steps");
  // The step before the old end: a schedule that looks at the run's length has another rate there.
  if (options_.train.steps > steps &&
      optimizer_->learning_rate(steps - 1, steps) !=
          optimizer_->learning_rate(steps - 1, options_.train.steps))
    log_info(
        "the schedule ended at step {} and ends at {} now: from here on the learning rate is that "
        "of a run of {} steps",
        steps, options_.train.steps, options_.train.steps);
}

// Everything below may fail after hours: found out before the first step.
void Trainer::check_side_tasks() {
  windows_of(dataset_.validation, options_.evaluation.final_windows);
  if (options_.sample.tokens == 0 || !dataset_.tokenizer || dataset_.examples) return;
  try {
    sample_prompt_ =
        prompt_tokens(*dataset_.tokenizer, options_.sample.prompt, model_->vocabulary_size());
  } catch (const UserError& e) {
    if (communicator().first())
      log_warning("no text samples, as sample.prompt cannot be used: {}", e.what());
    sample_prompt_.clear();
  }
}

void Trainer::resume(const std::string& checkpoint) {
  const Activity activity("reading " + checkpoint);
  const CheckpointContents c = read_checkpoint(checkpoint);
  for (const char* key : {"step", "tokens", "seconds", "batch", "random_seed", "random_offset",
                          "memory_counters", "data_hash", "numerics", "config"})
    if (!c.state.contains(key))
      throw DataError(
          fmt::format("{}/state.json has no \"{}\": it was not written by this version of reverie",
                      checkpoint, key));
  const auto differences = obstacles_to_resuming(
      in_todays_form(c.state.at("config"), control_.run_directory), resolved_);
  if (!differences.empty())
    throw ConfigError(
        fmt::format("{} was made with another config: {}", checkpoint, differences.front()));
  if (c.state.at("data_hash") != dataset_.hash)
    throw ConfigError(fmt::format("{} was trained on other tokens (data hash {}, now {})",
                                  checkpoint, c.state.at("data_hash").get<std::string>(),
                                  dataset_.hash));
  const Json now =
      machine_numerics(split_.exact(), options_.parameter_dtype(), communicator().size());
  if (communicator().first() && numerics_differ(c.state.at("numerics"), now))
    log_warning(
        "resuming with {} where the run before had {}: results will be close, but not "
        "bit-identical",
        json_text(now), json_text(c.state.at("numerics")));
  model_->load(c.model);
  step_ = c.state.at("step");
  tokens_ = c.state.at("tokens");
  seconds_ = c.state.at("seconds");
  evaluation_due_ = c.state.value("evaluation_due", false);
  if (c.state.contains("best"))
    best_ = Best{c.state.at("best").at("step"), c.state.at("best").at("val_loss")};
  sampler_->seek(c.state.at("batch"));
  default_generator() = Generator(c.state.at("random_seed"), c.state.at("random_offset"));
  NamedTensors moments, memory;
  for (const auto& [name, tensor] : c.optimizer)
    (name.starts_with("memory.") ? memory : moments).emplace_back(name, tensor);
  const Json& counters = c.state.at("memory_counters");
  carried_.load(split_, options_.tensor_device(), memory,
                counters.empty() ? std::map<std::string, int64_t>()
                                 : counters.at(0).get<std::map<std::string, int64_t>>());
  optimizer_->load(moments, step_);
  gate_->remember(verdict_on_disk(control_.run_directory, c.state));
  if (communicator().first()) log_info("resumed {} at step {}", control_.run_directory, step_);
}

RunEnd Trainer::run() {
  const std::unique_ptr<FileLock> until_the_end = std::move(lock_);
  held_ = until_the_end.get();
  notify([&](Callback& c) { c.on_start(*this, step_); });
  RunEnd end = RunEnd::finished;
  try {
    if (evaluation_due_) evaluate_and_sample();
    if (train_to_the_end()) {
      save_checkpoint();  // before anything that may fail
      finish();
    } else {
      end = RunEnd::stopped;
    }
  } catch (const Interrupted& i) {  // out of an evaluation or a sample, on all ranks
    agreed_signal_ = i.signal;
    save_checkpoint();
    end = RunEnd::stopped;
  } catch (const MachineError&) {
    // An output failed between two steps: what was trained is whole, and may still find a place.
    if (!in_step_ && communicator().size() == 1) try {
        save_checkpoint();
      } catch (const Error&) {
      }
    throw;
  }
  notify([&](Callback& c) { c.on_end(*this); });
  return end;
}

// False when it was stopped before; then the step it stopped at is saved.
bool Trainer::train_to_the_end() {
  const int64_t interval = options_.checkpoint.interval;
  while (step_ < options_.train.steps) {
    const bool stop = stop_signal() != 0 || (control_.stop_after && step_ >= *control_.stop_after);
    if ((interval > 0 && step_ % interval == 0 && step_ > 0) || stop) save_checkpoint();
    if (stop) return false;
    in_step_ = true;
    const StepInfo info = train_step();
    in_step_ = false;
    notify([&](Callback& c) { c.on_step(*this, info); });
    evaluate_and_sample();
  }
  return true;
}

// Where the step is one of those.
void Trainer::evaluate_and_sample() {
  const auto& o = options_;
  const auto due = [&](int64_t interval) {
    return interval > 0 && step_ % interval == 0 && step_ < o.train.steps;
  };
  evaluation_due_ = due(o.evaluation.interval) || due(o.sample.interval);
  if (due(o.evaluation.interval)) {
    const EvaluationInfo e =
        evaluate_now("evaluation", o.evaluation.windows, o.evaluation.prefix_only_windows, false);
    notify([&](Callback& c) { c.on_evaluation(*this, e); });
    note_best(e.val_loss);
  }
  if (due(o.sample.interval)) sample();
  evaluation_due_ = false;
  if (best_ && best_->step == step_) save_checkpoint();
}

// Compares what is comparable: the loss on the windows that are evaluated during training.
void Trainer::note_best(double val_loss) {
  if (!options_.checkpoint.keep_best || !std::isfinite(val_loss)) return;
  if (best_ && best_->val_loss <= val_loss) return;
  best_ = Best{step_, val_loss};
}

// After the last step and its checkpoint. A run that is resumed here does all of it again.
void Trainer::finish() {
  const auto& o = options_.evaluation;
  if (options_.checkpoint.keep_best && !(best_ && best_->step == step_)) {
    note_best(evaluate(*model_, windows_of(dataset_.validation, o.windows), communicator()).loss);
    if (best_ && best_->step == step_) saved_step_ = -1;  // written again, as the best
    save_checkpoint();
  }
  const Json before = verdict().json();
  const EvaluationInfo last =
      evaluate_now("final evaluation", o.final_windows, o.final_prefix_only_windows, true);
  if (verdict().json() != before) {  // the weights carry what is known of them
    saved_step_ = -1;
    save_checkpoint();
  }
  notify([&](Callback& c) { c.on_evaluation(*this, last); });
  sample();
  if (communicator().first()) {
    require_run_directory();
    write_summary(last);
  }
  communicator().barrier();
}

// The run directory may have been moved or removed under the run, its tokens changed.
void Trainer::require_run_directory() {
  dataset_.train.require_unchanged();
  dataset_.validation.require_unchanged();
  if (!held_ || held_->in_place()) return;
  const std::string now = held_->current_file(), before = control_.run_directory;
  if (now.empty()) {
    in_step_ = true;  // there is no place for what was trained
    throw MachineError(
        fmt::format("the run directory {} was removed while the run was in it", before));
  }
  held_ = nullptr;
  control_.run_directory = std::filesystem::path(now).parent_path().string();
  save_checkpoint();
  throw MachineError(
      fmt::format("the run directory {} was moved to {} while the run was in it; its checkpoint of "
                  "step {} is there: go on with --run-dir {} --resume",
                  before, control_.run_directory, step_, control_.run_directory));
}

StepInfo Trainer::train_step() {
  const double begin = now_seconds();
  const profile::Scope profiled(profile::Kind::step, "step");
  const MatmulPrecisionScope precision(options_.matmul_precision());
  model_->train(true);
  parameters_->clear_gradients();
  const int64_t index = sampler_->position();
  int64_t targets = 0;
  const double loss = backward_over_parts(index, targets);
  sampler_->seek(index + 1);
  const profile::Scope phase(profile::Kind::step, "optimizer");
  const double norm = parameters_->gradient_norm();
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    communicator().fail_together();  // ranks have the same loss and norm
    diverged(
        fmt::format("step {}: loss {} and gradient norm {} are not both finite (batch {}); the "
                    "weights were not changed by this step",
                    step_ + 1, loss, norm, index));
  }
  StepInfo info;
  info.learning_rate = optimizer_->learning_rate(step_, options_.train.steps);
  optimizer_->step(info.learning_rate, norm);
  const double elapsed = now_seconds() - begin;
  ++step_;
  tokens_ += targets;
  seconds_ += elapsed;
  info.step = step_;
  info.loss = loss;
  info.gradient_norm = norm;
  info.tokens = tokens_;
  info.tokens_per_second = double(targets) / elapsed;
  info.seconds = seconds_;
  return info;
}

// Leaves the gradient of the whole batch on every rank, and returns its loss.
double Trainer::backward_over_parts(int64_t batch_index, int64_t& targets) {
  std::optional<profile::Scope> phase(std::in_place, profile::Kind::step, "data");
  const bool carries = model_->carries_memory();
  if (carries && static_cast<SequentialSampler&>(*sampler_).starts_pass(batch_index))
    carried_.clear(split_);
  // Every part is weighted by the targets of the whole batch, so that the split does not change the
  // gradient.
  targets = sampler_->target_count(batch_index);
  const auto& parts = split_.parts();
  const Generator before = default_generator();
  std::vector<double> losses;
  for (size_t i = 0; i < parts.size(); ++i) {
    phase.emplace(profile::Kind::step, "data");
    const auto [first_row, rows] = parts[i];
    const Batch batch = batches_->rows(batch_index, parts[i]);
    SequenceState* state = carries ? &carried_.part(i) : nullptr;
    // Rows draw the dropout that they would draw in the whole batch.
    default_generator() =
        Generator(before.seed(), before.offset(),
                  {uint64_t(first_row), uint64_t(rows), uint64_t(split_.batch())});
    phase.emplace(profile::Kind::step, "forward");
    const Variable loss = model_->loss(batch.tokens, batch.targets, 1.0 / double(targets), state);
    prepare_part_after(i, batch_index);
    losses.push_back(loss.tensor().item());
    phase.emplace(profile::Kind::step, "backward");
    reducer_->begin_part(i + 1 == parts.size());
    backward(loss);
    reducer_->end_part();
    if (state) state->memory.detach();
  }
  default_generator() = Generator(before.seed(), default_generator().offset());
  phase.emplace(profile::Kind::step, "gradients");
  reducer_->wait();
  const StepVotes votes =
      exchange_votes(communicator(), split_, {losses, requested_signal(), reducer_->reached()});
  reducer_->set_reached(votes.reached);
  agreed_signal_ = votes.signal;
  return std::accumulate(votes.losses.begin(), votes.losses.end(), 0.0);
}

// While the device computes this part's loss.
void Trainer::prepare_part_after(size_t part, int64_t batch_index) {
  const auto& parts = split_.parts();
  if (part + 1 < parts.size())
    batches_->prepare(batch_index, parts[part + 1]);
  else if (step_ + 1 < options_.train.steps)
    batches_->prepare(batch_index + 1, parts[0]);
}

EvaluationWindows Trainer::windows_of(const TokenFile& tokens, int64_t count) const {
  return EvaluationWindows::over(tokens, dataset_.examples, options_.evaluation.batch_size,
                                 model_->block_size(), count);
}

EvaluationInfo Trainer::evaluate_now(const char* what, int64_t windows, int64_t prefix_windows,
                                     bool last) {
  const EvaluationWindows val = windows_of(dataset_.validation, windows),
                          train = windows_of(dataset_.train, val.window_count()),
                          prefix = windows_of(dataset_.validation, prefix_windows);
  EvaluationInfo e;
  e.step = step_;
  Activity activity(fmt::format("{}: train", what));
  const EvaluationProgress progress = [&](int64_t done, int64_t all) { activity.reach(done, all); };
  try {
    e.train_loss = evaluate(*model_, train, communicator(), progress).loss;
    activity.now(fmt::format("{}: validation", what));
    e.val_loss = evaluate(*model_, val, communicator(), progress).loss;
    activity.now(fmt::format("{}: prefix-only, and the causality probe", what));
    const SequenceState* carried = model_->carries_memory() ? &carried_.part(0) : nullptr;
    const PrefixScores scores = gate_->ask_at_evaluation(val, prefix, carried, step_, last);
    e.val_loss_prefix_only = scores.prefix_only.loss;
    e.val_loss_same_windows = scores.same_windows.loss;
    if (auto* augmented = dynamic_cast<AugmentedModel*>(model_.get())) {
      activity.now(fmt::format("{}: behind latents", what));
      const InsertionRule rule = InsertionRule::of(*augmented);
      e.augmented_train = evaluate_augmented(*augmented, train, rule, communicator());
      e.augmented_val = evaluate_augmented(*augmented, val, rule, communicator());
    }
  } catch (const DivergedError& error) {
    communicator().fail_together();  // ranks have the same losses
    diverged(fmt::format("step {}: {}", step_, error.what()));
  }
  return e;
}

Json EvaluationInfo::augmented_json() const {
  if (!augmented_val) return {};
  Json out = {{"train_loss", augmented_train->loss}, {"val_loss", augmented_val->loss}};
  const Json of_val = augmented_val->json();
  for (const auto& [key, value] : of_val.items())
    if (key != "loss") out[key] = value;
  return out;
}

// A sample that fails is no reason to end the run.
void Trainer::sample() {
  if (!communicator().first()) return;
  const Activity activity("writing a sample");
  std::string text;
  try {
    if (!sample_prompt_.empty()) {
      GenerateOptions g;
      g.max_tokens = options_.sample.tokens;
      g.temperature = options_.sample.temperature;
      g.top_k = options_.sample.top_k;
      g.seed = derive_seed(uint64_t(options_.seed), kSamples);
      g.ends = ends_of_text(*model_, dataset_.tokenizer.get());
      g.vocabulary = dataset_.tokenizer->vocabulary_size();
      const bool alone = communicator().size() == 1;  // others would not hear of the signal
      text = dataset_.tokenizer->decode(generate(*model_, sample_prompt_, g, [&](int32_t) {
        if (alone) stop_if_requested();
      }));
    }
  } catch (const Error& e) {
    log_warning("no sample at step {}: {}", step_, e.what());
  }
  notify([&](Callback& c) { c.on_sample(*this, step_, text); });
}

void Trainer::diverged(const std::string& what) const {
  throw DivergedError(
      fmt::format("{}. {}. Try a lower learning rate, more warmup, or look at the data", what,
                  last_checkpoint_ ? "The last good checkpoint is " + *last_checkpoint_
                                   : "There is no checkpoint yet"));
}

// Once for a step.
void Trainer::save_checkpoint() {
  if (saved_step_ == step_) return;
  const Activity activity("saving a checkpoint");
  if (communicator().first()) require_run_directory();
  in_step_ = true;
  // A checkpoint of weights that are not numbers would replace one that is worth keeping.
  if (!parameters_->finite()) {
    communicator().fail_together();
    diverged(fmt::format("step {}: the weights are not all finite", step_));
  }
  if (communicator().size() > 1)
    require_same_hash(communicator(), fmt::format("the weights after step {}", step_),
                      model_->weights_hash());
  CheckpointContents c;
  c.optimizer = optimizer_->state();
  for (auto& [name, tensor] : carried_.whole(split_, communicator()))
    c.optimizer.emplace_back(name, tensor);
  if (communicator().first()) write(c);
  communicator().barrier();  // nobody goes on, or ends, before it is on disk
  saved_step_ = step_;
  in_step_ = false;
}

void Trainer::write(CheckpointContents& c) {
  c.model = model_->state();
  c.model_metadata = {{"format", "pt"}, {"config", options_.model.resolved->dump()}};
  c.state = {{"step", step_},
             {"tokens", tokens_},
             {"seconds", seconds_},
             {"batch", sampler_->position()},
             {"random_seed", default_generator().seed()},
             {"random_offset", default_generator().offset()},
             {"memory_counters", Json::array({carried_.counters()})},
             {"data_hash", dataset_.hash},
             {"numerics",
              machine_numerics(split_.exact(), options_.parameter_dtype(), communicator().size())},
             {"commit", build_commit()},
             {"config", resolved_}};
  c.state["verdict"] = verdict().json();
  c.model_metadata["verdict"] = verdict().line();
  if (evaluation_due_) c.state["evaluation_due"] = true;
  if (best_) c.state["best"] = {{"step", best_->step}, {"val_loss", best_->val_loss}};
  if (leaks()) c.state["label"] = c.model_metadata["label"] = verdict().label();
  last_checkpoint_ = write_checkpoint(control_.run_directory, step_, c, options_.checkpoint.keep,
                                      best_ ? std::optional(best_->step) : std::nullopt);
  notify([&](Callback& cb) { cb.on_checkpoint(*this, *last_checkpoint_); });
}

void Trainer::write_summary(const EvaluationInfo& e) {
  Json s = {{"train_loss", e.train_loss},
            {"val_loss", e.val_loss},
            {"val_loss_prefix_only", e.val_loss_prefix_only},
            {"val_loss_on_prefix_only_windows", e.val_loss_same_windows},
            {"causal", verdict().causal()},
            {"max_future_logit_change", gate_->largest_change()},
            {"causality_worst", verdict().line()},
            {"verdict", verdict().json()},
            {"parameters", model_->parameter_count()},
            {"tokens", tokens_},
            {"seconds", seconds_},
            {"tokens_per_second", seconds_ > 0 ? double(tokens_) / seconds_ : 0.0},
            {"commit", build_commit()}};
  if (leaks()) s["label"] = verdict().label();
  if (e.augmented_val) s["augmented"] = e.augmented_json();
  s["steps"] = step_;
  s["seed"] = options_.seed;
  s["vocabulary_size"] = model_->vocabulary_size();
  s["dataset"] = {{"name", dataset_.name()}, {"note", dataset_.note()}, {"hash", dataset_.hash}};
  s["numerics"] =
      machine_numerics(split_.exact(), options_.parameter_dtype(), communicator().size());
  if (communicator().size() > 1) s["ranks"] = communicator().size();
  write_file_atomically(file_in(control_.run_directory, kSummaryFile), json_text(s, 2) + "\n");
}

}  // namespace reverie
