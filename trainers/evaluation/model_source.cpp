#include "trainers/evaluation/model_source.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/frozen_base.h"
#include "layers/pretrained/load.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/runs/explained_model.h"
#include "trainers/runs/exported_verdict.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/runs/trained_state.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// llama2.c keeps the tokenizer in a file of its own.
std::optional<std::string> tokenizer_beside(const std::string& path, bool required) {
  if (fs::is_directory(path) || fs::path(path).extension() != ".bin") return path;
  const fs::path beside = fs::path(path).parent_path() / "tokenizer.bin";
  if (!required && !fs::exists(beside)) return std::nullopt;
  require(fs::exists(beside),
          "{} holds no tokenizer and no tokenizer.bin lies beside it: name one (--tokenizer)",
          path);
  return beside.string();
}

// A run's tokens mean what its own tokenizer says.
void require_own_tokenizer(const std::string& run, const Tokenizer& own, const std::string& given) {
  const auto other = load_tokenizer_for(given);
  require(
      other->hash() == own.hash(),
      "--tokenizer {} is another one than that of {} (hash {}, wanted {}): its tokens would mean "
      "other texts. Leave --tokenizer out",
      given, run, other->hash(), own.hash());
}

// Published files may hold one that is not understood, so that another copy of it is named.
void warn_of_other_tokenizer(const std::string& path, const Tokenizer& given,
                             const std::string& given_path) {
  std::shared_ptr<const Tokenizer> own;
  try {
    if (const auto file = tokenizer_beside(path, false)) own = load_tokenizer_for(*file);
  } catch (const std::exception&) {
    return;  // there is none to compare with
  }
  if (own && own->hash() != given.hash())
    log_warning(
        "{} comes with a tokenizer of its own, and --tokenizer {} is another one: if their tokens "
        "mean other texts, every figure is of a wrong text",
        path, given_path);
}

// The model's options, and those of a frozen base, which its own files say.
std::string config_of(const Component& component, LanguageModel& model) {
  Json config = {{"model", *component.resolved}};
  if (const FrozenBase* base = frozen_base_of(model)) config["base"] = parse_json(base->model);
  return json_text_replacing(config);
}

// The run's model once more, with its weights widened. Its base has been checked by load_run().
std::unique_ptr<LanguageModel> in_f64(const LoadedRun& run) {
  ExperimentOptions options = run.options;
  options.precision = "f64";
  auto model = make_run_model(options);
  model->load(run.model->state());
  return model;
}

}  // namespace

std::optional<int32_t> UsableModel::begin_of_text() const {
  return tokenizer && tokenizer->adds_begin_of_text() ? tokenizer->begin_of_text() : std::nullopt;
}
const Tokenizer& UsableModel::text() const {
  require(tokenizer != nullptr,
          "{} was trained on token files without a tokenizer: there is no text to read or print",
          description);
  return *tokenizer;
}

UsableModel open_model(const std::string& path, const OpenOptions& options) {
  const std::string& tokenizer = options.tokenizer;
  const Activity activity("loading " + path);
  UsableModel usable;
  if (find_run(path)) {
    LoadedRun run = load_run(path);
    usable.config = config_of(run.options.model, *run.model);
    usable.model = options.f64 ? in_f64(run) : std::move(run.model);
    usable.tokenizer = run.tokenizer;
    usable.description = run.checkpoint;
    usable.verdict = run.verdict;
    usable.step = run.step;
  } else if (is_trained_state(path)) {
    require(!options.f64,
            "{} holds the trained part of a model, which --f64 does not widen: give the run", path);
    LoadedState state = load_trained_state(path);
    usable.config = config_of(state.component, *state.model);
    usable.model = std::move(state.model);
    usable.verdict = state.verdict;
    usable.description = path;
    if (fs::exists(fs::path(path) / kTokenizerFile)) usable.tokenizer = load_tokenizer(path);
  } else {
    LoadedModel loaded = load_pretrained(
        path, {.dtype = options.f64 ? DType::f64 : DType::f32, .device = options.device});
    usable.config = config_of(loaded.component, *loaded.model);
    usable.model = std::move(loaded.model);
    usable.ends = loaded.ends;
    usable.verdict = verdict_of_export(path);
    usable.description = path;
    if (tokenizer.empty())
      if (const auto file = tokenizer_beside(path, options.or_else == nullptr))
        usable.tokenizer = load_tokenizer_for(*file);
  }
  if (!tokenizer.empty()) {
    if (usable.tokenizer) require_own_tokenizer(path, *usable.tokenizer, tokenizer);
    const bool own = usable.tokenizer != nullptr;
    usable.tokenizer = load_tokenizer_for(tokenizer);
    if (!own) warn_of_other_tokenizer(path, *usable.tokenizer, tokenizer);
  }
  if (!usable.tokenizer) usable.tokenizer = options.or_else;
  if (usable.ends.empty()) usable.ends = ends_of_text(*usable.model, usable.tokenizer.get());
  if (usable.tokenizer) require_fitting(*usable.tokenizer, usable.model->vocabulary_size(), path);
  if (options.f64) usable.description += ", in f64";
  usable.model->train(false);
  return usable;
}

UsableModel open_language_model(const std::string& path, const OpenOptions& options) {
  UsableModel model = open_model(path, options);
  if (const auto* explained = dynamic_cast<const ExplainedModel*>(model.model.get()))
    throw UserError(
        fmt::format("{} is a decoder, which writes of another run's memory and is no language "
                    "model: wanted `reverie sample {} --explain {}`",
                    path, explained->options().base, path));
  return model;
}

AugmentedModel& coprocessor_beside(const UsableModel& run, const std::string& run_path,
                                   const UsableModel& base, const std::string& base_path) {
  auto* augmented = dynamic_cast<AugmentedModel*>(run.model.get());
  require(augmented != nullptr,
          "{} holds no coprocessor: wanted a run whose model is \"augmented\" (--coprocessor)",
          run_path);
  const auto* other = dynamic_cast<const AugmentedModel*>(base.model.get());
  const Module& given = other ? static_cast<const Module&>(other->base()) : *base.model;
  require(given.weights_hash() == augmented->base().weights_hash(),
          "the coprocessor of {} was trained beside other weights than those of {}: give its own "
          "base as the model, {}{}",
          run_path, base_path, augmented->options().base,
          augmented->options().train_base ? ", as it was trained with it: the same run" : "");
  return *augmented;
}

}  // namespace reverie
