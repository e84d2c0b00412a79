#include "trainers/runs/experiment.h"

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/cuda.h"
#include "core/error.h"
#include "core/log.h"
#include "core/plugin.h"
#include "core/registry.h"
#include "datasets/text_input.h"
#include "layers/language_model.h"
#include "layers/model_options.h"
#include "trainers/runs/earlier_spellings.h"
#include "trainers/runs/verdict.h"

namespace reverie {

void TrainingOptions::fields(Fields& f) {
  f.integer("steps", steps, kNonNegative, "optimizer steps");
  f.integer("batch_size", batch_size, kPositive,
            "sequences per step, each of so many windows of the model's block_size");
  f.integer("windows", windows, {1, 1 << 16},
            "consecutive windows of block_size that each sequence of a step has; the gradient goes "
            "back through all of them where the model carries memory from one to the next");
  f.integer("micro_batches", micro_batches, kPositive,
            "number of parts that a batch is split into (gradient accumulation); the gradient "
            "does not depend on it");
  f.rule(batch_size % micro_batches == 0,
         fmt::format("micro_batches {} does not divide batch_size {}", micro_batches, batch_size));
  f.text("exact_sums", exact_sums, {"auto", "on", "off"},
         "on: each sequence has its own forward and backward, and gradients are added in a fixed "
         "order, so that results are bit-identical for any micro_batches and number of ranks "
         "(slower); auto: on in f64, which is for checks");
}
void EvaluationOptions::fields(Fields& f) {
  f.integer("interval", interval, kNonNegative,
            "steps between evaluations during training; 0: only at the end");
  f.integer("windows", windows, kPositive,
            "windows of each split per evaluation, the same ones every time");
  f.integer("prefix_only_windows", prefix_only_windows, kPositive,
            "validation windows that are scored from each prefix alone (block_size forwards each)");
  f.integer("final_windows", final_windows, kNonNegative,
            "windows of each split in the final evaluation; 0: the whole validation split, and "
            "as many windows of the training split");
  f.integer("final_prefix_only_windows", final_prefix_only_windows, kPositive,
            "validation windows that are scored from each prefix alone at the end");
  f.integer("batch_size", batch_size, kPositive, "windows per forward");
}
void SampleOptions::fields(Fields& f) {
  f.integer("interval", interval, kNonNegative,
            "steps between text samples during training; 0: only at the end");
  f.integer("tokens", tokens, kNonNegative, "length of a sample; 0: no samples");
  f.number("temperature", temperature, {0, 100},
           "sampling temperature; 0: always the likeliest "
           "token");
  f.integer("top_k", top_k, kNonNegative, "sample among the k likeliest tokens; 0: among all");
  f.text("prompt", prompt, {}, "beginning of a sample");
}
void CheckpointOptions::fields(Fields& f) {
  f.integer("interval", interval, kNonNegative, "steps between checkpoints; 0: only at the end");
  f.integer("keep", keep, kNonNegative, "newest checkpoints kept; 0: all");
  f.boolean("keep_best", keep_best,
            "keep the checkpoint of the lowest validation loss as well (evaluation.interval, "
            "evaluation.windows); it opens as RUN@best");
  f.boolean("self_contained", self_contained,
            "copy the files of a frozen base into the run directory, so that the run opens without "
            "them; otherwise its checkpoints name the base by path and hash");
}
bool ExperimentOptions::keeps_rounded_copies(int ranks) const {
  return matmul_precision() == MatmulPrecision::bf16 &&
         (!configured_rematerialize(model) || (distributed.shard_optimizer && ranks > 1));
}
void ExperimentOptions::fields(Fields& f) {
  f.integer("seed", seed, {0, int64_t(1) << 53},
            "seed of initial weights, data order, dropout and samples");
  f.text("device", device, {"cpu", "cuda"},
         "device that holds the tensors; cuda needs a build with CUDA and a GPU");
  f.text("precision", precision, {"f32", "bf16", "f64"},
         "type of parameters and activations; bf16: products of training steps have bf16 "
         "operands, activations are kept for the backward pass in bf16, and everything else is "
         "f32; f64 is for checks");
  f.boolean(
      "allow_future_leak", allow_future_leak,
      std::string("train a model that fails the causality probe; every number from it is then "
                  "labelled ") +
          kLeakLabel);
  f.integer(
      "shrunk_by", shrunk_by, {1, int64_t(1) << 40},
      "by how much the sizes here were divided (--shrink K writes it): every figure of the run "
      "is labelled with it; 1: these are the experiment's own sizes");
  f.texts("plugins", plugins, "shared libraries that register more components");
  f.object("data", data, "the text and its tokens");
  f.component("model", model, ModelRegistry::instance(), false, "the model");
  f.object("train", train, "length and batches");
  f.component("optimizer", optimizer, OptimizerRegistry::instance(), false,
              "the algorithm that updates the weights, and its learning rate");
  f.object("evaluation", evaluation, "losses");
  f.object("sample", sample, "samples of generated text");
  f.object("checkpoint", checkpoint, "saved states, from which a run resumes");
  f.object("distributed", distributed, "how several ranks work together; see docs/distributed.md");
}

namespace {

std::atomic<int> g_absent_devices_allowed{0};

// "" where the device is usable, or need not be.
std::string problem_of_device(const std::string& device) {
  if (device != "cuda" || cuda::status().usable || g_absent_devices_allowed > 0) return "";
  return fmt::format("$.device is cuda: {}; use cpu", cuda::status().in_words);
}

// Every pair of options which contradict each other, a line each. An optimizer that could not be
// read is passed over.
std::string contradictions(const ExperimentOptions& o) {
  std::string problems;
  const auto wrong = [&](const std::string& text) {
    problems += (problems.empty() ? "" : "\n") + text;
  };
  if (o.optimizer.options) {
    const RatePlan rates = rate_plan(o.optimizer);
    if (const std::string problem = rates.schedule->problem(rates.highest); !problem.empty())
      wrong(problem);
  }
  if (const std::string problem = problem_of_device(o.device); !problem.empty()) wrong(problem);
  const DataOptions& data = o.data;
  if (data.tokenizer == "bpe" && data.train_bpe == 0)
    wrong(
        "$.data.tokenizer is bpe, byte pairs learnt from the text, and needs $.data.train_bpe, the "
        "size of its vocabulary, such as 4096");
  if (data.tokenizer != "bpe" && data.train_bpe != 0)
    wrong(fmt::format(
        "$.data.train_bpe is {}, which is for the tokenizer bpe; $.data.tokenizer is {}",
        data.train_bpe, data.tokenizer));
  const bool text = data.mix.empty() && !data.generated.options && !data.problems.options &&
                    (data.path.empty() || !is_token_directory(data.path));
  if (text && data.validation_fraction == 0)
    wrong(
        "$.data.validation_fraction is 0, so that nothing is held out for the evaluations: give a "
        "share of the text, such as 0.1");
  if (o.checkpoint.keep_best && o.evaluation.interval == 0)
    wrong(
        "$.checkpoint.keep_best compares evaluations during training, but $.evaluation.interval "
        "is 0, so there are none: set it to a number of steps");
  return problems;
}

// Reads all of it; what is wrong alone and what contradicts another option come in one message.
void read_all(const Config& config, ExperimentOptions& options) {
  try {
    read_config(config, options);
  } catch (const ConfigError& e) {
    const std::string more = contradictions(options);
    throw ConfigError(more.empty() ? e.what() : std::string(e.what()) + "\n" + more);
  }
}

}  // namespace

AbsentDevicesAllowed::AbsentDevicesAllowed() {
  ++g_absent_devices_allowed;
}
AbsentDevicesAllowed::~AbsentDevicesAllowed() {
  --g_absent_devices_allowed;
}
void require_device(const std::string& device) {
  if (device != "cpu" && device != "cuda")
    throw ConfigError(fmt::format("$.device is {}; wanted cpu or cuda", device));
  if (const std::string problem = problem_of_device(device); !problem.empty())
    throw ConfigError(problem);
}

ExperimentOptions read_experiment(const Config& config, const std::string& directory) {
  ExperimentOptions options = read_experiment_as_written(config, directory);
  resolve_paths(options, directory);
  return options;
}

ExperimentOptions read_experiment_as_written(const Config& config, const std::string& directory) {
  if (config.has("plugins") && config.json().at("plugins").is_array())
    for (const Json& p : config.json().at("plugins"))
      if (p.is_string()) load_plugin(p.get<std::string>(), directory);
  ExperimentOptions options;
  read_all(Config(in_current_spelling(config.json()), config.path(), config.source()), options);
  require_device(options.device);
  // The resolved config lies elsewhere, in the run directory, and must find the same files.
  for (auto& p : options.plugins)
    if (const auto beside = std::filesystem::path(directory) / p; std::filesystem::exists(beside))
      p = std::filesystem::absolute(beside).lexically_normal().string();
  return options;
}

void require_consistent(const ExperimentOptions& o) {
  if (const std::string problems = contradictions(o); !problems.empty())
    throw ConfigError(problems);
  const RatePlan rates = rate_plan(o.optimizer);
  if (const std::string warning = rates.schedule->warning(rates.highest, o.train.steps);
      !warning.empty())
    log_warning("{}", warning);
}

}  // namespace reverie
