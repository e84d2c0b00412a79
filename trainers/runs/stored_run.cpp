#include "trainers/runs/stored_run.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/random.h"
#include "trainers/runs/base_files.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/exported_verdict.h"
#include "trainers/runs/recorded_run.h"
#include "trainers/runs/run_reference.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

// The verdict on the model at `path`: a run, or an export, in a table's run as well, of which more
// may have become known since.
Verdict known_of(const std::string& path) {
  const auto run = find_run(path);
  if (!run) {
    Verdict verdict = verdict_of_export(path);
    const auto parent = std::filesystem::path(path).parent_path().string();
    if (!parent.empty() && is_run_directory(parent)) verdict.merge(known_of(parent));
    return verdict;
  }
  const std::vector<std::string> checkpoints = checkpoints_of(run->directory);
  const std::string checkpoint =
      !run->checkpoint.empty() || checkpoints.empty() ? run->checkpoint : checkpoints.back();
  const Json state = checkpoint.empty()
                         ? Json::object()
                         : read_stored_json(file_in(checkpoint, "state.json")).json();
  return verdict_on_disk(run->directory, state);
}

}  // namespace

std::unique_ptr<LanguageModel> make_run_model(const ExperimentOptions& o) {
  const Activity activity("building the model");
  Generator random(derive_seed(uint64_t(o.seed), kWeights));
  // A dry run counts on the CPU for devices that need not be here.
  const Device device = dry_run() ? Device{} : o.tensor_device();
  return ModelRegistry::instance().make(o.model, Build{random, o.parameter_dtype(), device});
}

Verdict verdict_on_disk(const std::string& run_directory, const Json& state) {
  Verdict verdict = Verdict::of_file(state);
  if (run_finished(run_directory)) verdict.merge(Verdict::of_file(read_summary(run_directory)));
  verdict.merge(kept_leak(run_directory));
  return verdict;
}

Verdict verdict_of_base(const Json& model) {
  Verdict verdict;
  for (const char* key : {"base", "path"}) {
    if (!model.contains(key) || !model[key].is_string()) continue;
    const auto path = model[key].get<std::string>();
    const Verdict known = known_of(path);
    if (!known.leaks()) continue;
    Movement movement = *known.first_leak();
    movement.probe = fmt::format("the base {}: {}", path, movement.probe);
    movement.step = 0;
    verdict.add(movement);
  }
  return verdict;
}

ExperimentOptions read_run_config(const std::string& directory) {
  if (!is_run_directory(directory))
    throw UserError(
        fmt::format("{} is not a run directory: there is no {}", directory, kConfigFile));
  return read_experiment(read_stored_json(file_in(directory, kConfigFile)), directory);
}
LoadedRun load_run(const std::string& given) {
  const Activity activity("loading " + given);
  const auto named = find_run(given);
  const std::string directory = named ? named->directory : given;
  LoadedRun run;
  run.options = read_run_config(directory);
  const bool newest = !named || named->checkpoint.empty();
  const auto stored =
      newest
          ? read_latest_checkpoint(directory)
          : std::optional(StoredCheckpoint{named->checkpoint, read_checkpoint(named->checkpoint)});
  if (!stored) throw UserError(fmt::format("{} has no complete checkpoint yet", directory));
  if (std::filesystem::exists(file_in(directory, std::string(kTokenizerFile))))
    run.tokenizer = load_tokenizer(directory);
  require_one_run(directory, run.options, run.tokenizer.get(), *stored);
  const CheckpointContents& contents = stored->contents;
  run.checkpoint = stored->directory;
  run.step = contents.state.value("step", int64_t(0));
  run.options.model = with_base_found(run.options.model, directory);
  run.model = make_run_model(run.options);
  load_weights(*run.model, *stored);
  run.model->train(false);
  run.verdict = verdict_on_disk(directory, contents.state);
  run.verdict.merge(notes_on_plugins(contents.state));
  run.leaks = run.verdict.leaks();
  run.data_hash = contents.state.value("data_hash", "");
  return run;
}

}  // namespace reverie
