#include "trainers/training/run_preparation.h"

#include <mutex>
#include <nlohmann/json.hpp>

#include "core/changed_component.h"
#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/registry.h"
#include "core/signals.h"
#include "datasets/example_stages.h"
#include "datasets/sampler.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/model_options.h"
#include "layers/thinking_model.h"
#include "trainers/distributed/agreement.h"
#include "trainers/runs/explained_model.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

// The example that has the most targets.
struct MostTargets {
  int64_t count = 0, example = 0;
  std::string file;
};

// `as_read`: a record of the file, of `length` tokens -> the record that a model reads.
template <class AsRead>
void find_most_targets(MostTargets& most, const ExampleLayout& layout, const TokenFile& file,
                       int64_t length, const AsRead& as_read) {
  std::vector<int32_t> stored(static_cast<size_t>(length));
  for (int64_t i = 0; i < file.count() / length; ++i) {
    file.copy(i * length, stored);
    const std::vector<int32_t> record = as_read(stored);
    std::vector<int32_t> targets(record.begin() + 1, record.end());
    const int64_t count =
        keep_example_targets(layout, std::span(record).first(targets.size()), targets);
    if (count > most.count) most = {count, i, file.path()};
  }
}

}  // namespace

Dataset open_data(const DataOptions& options, Communicator& communicator) {
  Activity activity("opening the data");
  if (!communicator.first()) communicator.barrier();
  Dataset dataset = prepare_and_open(options, [&](int64_t done, int64_t total) {
    activity.reach(done, total);
    stop_if_requested();
  });
  if (communicator.first()) communicator.barrier();
  return dataset;
}

void settle_vocabulary(ExperimentOptions& options, const Dataset& data) {
  options.model = with_vocabulary_of_data(options.model, data.vocabulary_size());
  std::string problems;
  const auto note = [&](const auto& check) {
    try {
      check();
    } catch (const UserError& e) {
      problems += (problems.empty() ? "" : "\n") + std::string(e.what());
    }
  };
  note([&] {
    data.require_vocabulary(configured_vocabulary(options.model).value_or(data.vocabulary_size()));
  });
  const auto block = configured_block_size(options.model);
  if (block && *block > 0 && !data.examples && !data.task && !data.train_mix)
    note([&] {
      require_window(data.train, *block);
      require_window(data.validation, *block);
    });
  note([&] { require_targets_ahead(options.model, data); });
  if (!problems.empty()) throw UserError(problems);
}

void require_targets_ahead(const Component& model, const Dataset& data) {
  if (model.type != "augmented" || !data.examples) return;
  const auto& options = component_options<AugmentedOptions>(model);
  if (options.insert != "targets") return;
  const ExampleLayout& layout = *data.examples;
  MostTargets most;
  for (const TokenFile* file : {&data.train, &data.validation})
    find_most_targets(most, layout, *file, layout.length,
                      [](const std::vector<int32_t>& record) { return record; });
  if (data.stage_mix)  // no stage has more written steps than stage 0
    find_most_targets(most, layout, data.train_steps, data.stage_mix->length,
                      [&](const std::vector<int32_t>& stageless) {
                        return record_at_stage(layout, stageless, 0, data.stage_mix->rule);
                      });
  require(most.count <= options.ahead,
          "$.model.ahead is {}, and example {} of {} has {} targets (its written steps and its "
          "answer, with their marks), the most of all: set $.model.ahead to {} or more",
          options.ahead, most.example + 1, most.file, most.count, most.count);
}

void require_same_thoughts(const LanguageModel& model, const Dataset& data) {
  const auto token = thought_token_of(model);
  if (!token || !data.examples || *token == data.examples->thought()) return;
  throw UserError(fmt::format(
      "the model thinks at token {}, and the thoughts of the data are token {}, which it would "
      "read "
      "as any other: set $.model.vocab_size to 0 (the data's vocabulary), or $.model.thought_token "
      "to {}",
      *token, data.examples->thought(), data.examples->thought()));
}

void settle_base(ExperimentOptions& options) {
  if (options.model.type != "explained") return;
  const auto& explained = component_options<ExplainedOptions>(options.model);
  if (!explained.base_hash.empty()) return;
  const std::string hash = explained_base_hash(explained.base);
  options.model = changed_component(
      ModelRegistry::instance(), options.model,
      [&](Fieldset& changed) { dynamic_cast<ExplainedOptions&>(changed).base_hash = hash; });
}

void require_same_run_on_all_ranks(Communicator& communicator, const ExperimentOptions& options,
                                   const Dataset& data, const Json& command) {
  ExperimentOptions copy = options;
  require(communicator.takes(options.tensor_device()),
          "$.device is {}, and ranks that exchange over {} take no tensors there: wanted those of "
          "communicator_on()",
          options.device, communicator.kind());
  require_same_on_all_ranks(
      communicator,
      {{"build", build_commit()},
       {"config", write_config(copy)},
       {"data", data.hash},
       {"kernels",
        {{"isa", std::string(name_of(active_isa()))}, {"matmul_library", matmul_library()}}},
       {"command", command}});
}

void warn_of_emulated_precision(const ExperimentOptions& options) {
  if (options.matmul_precision() != MatmulPrecision::bf16 || has_bf16_dot_products()) return;
  log_warning(
      "precision bf16: this machine or build has no bf16 dot products (AVX512_BF16, oneDNN), so "
      "operands are rounded to bf16 and multiplied in f32: the same results, but slower than "
      "precision f32");
}

void warn_of_windows_without_begin(const ExperimentOptions& options, const Dataset& data) {
  const bool published = options.model.type == "pretrained" || options.model.type == "augmented";
  if (!published || !data.tokenizer || !data.tokenizer->adds_begin_of_text() || data.window_begin ||
      data.examples || data.task || data.train_mix)
    return;
  static std::once_flag said;  // of many runs of a table, the first says it
  std::call_once(said, [] {
    log_warning(
        "the base's tokenizer puts a begin-of-text token before every text, and windows of $.data "
        "begin anywhere, without it. Models that always saw it (Gemma) predict far worse so: set "
        "$.data.begin_windows to true for them");
  });
}

}  // namespace reverie
