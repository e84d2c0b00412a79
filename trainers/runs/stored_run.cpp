#include "trainers/runs/stored_run.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/random.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_reference.h"
#include "trainers/text/activity.h"

namespace reverie {

std::unique_ptr<LanguageModel> make_run_model(const ExperimentOptions& o) {
  const Activity activity("building the model");
  Generator random(derive_seed(uint64_t(o.seed), kWeights));
  return ModelRegistry::instance().make(o.model,
                                        Build{random, o.parameter_dtype(), o.tensor_device()});
}

Verdict verdict_on_disk(const std::string& run_directory, const Json& state) {
  Verdict verdict = Verdict::of_file(state);
  if (run_finished(run_directory)) verdict.merge(Verdict::of_file(read_summary(run_directory)));
  verdict.merge(kept_leak(run_directory));
  return verdict;
}

Verdict kept_leak(const std::string& run_directory) {
  const std::string file = file_in(run_directory, kLeakFile);
  if (!std::filesystem::exists(file)) return {};
  return Verdict::of_file(Config::from_file(file).json());
}
void keep_leak(const std::string& run_directory, const Verdict& verdict) {
  if (!verdict.leaks()) return;
  Verdict all = kept_leak(run_directory);
  all.merge(verdict);
  write_file_atomically(file_in(run_directory, kLeakFile),
                        json_text(Json{{"label", all.label()}, {"verdict", all.json()}}, 2) + "\n");
}

bool run_finished(const std::string& directory) {
  return std::filesystem::exists(file_in(directory, kSummaryFile));
}
Json read_summary(const std::string& directory) {
  Json summary = Config::from_file(file_in(directory, kSummaryFile)).json();
  if (const Verdict kept = kept_leak(directory); kept.leaks()) {
    Verdict all = Verdict::of_file(summary);
    all.merge(kept);
    summary["causal"] = false;
    summary["label"] = all.label();
    summary["verdict"] = all.json();
  }
  return summary;
}
ExperimentOptions read_run_config(const std::string& directory) {
  const std::string file = file_in(directory, kConfigFile);
  if (!std::filesystem::exists(file))
    throw UserError(
        fmt::format("{} is not a run directory: there is no {}", directory, kConfigFile));
  return read_experiment(Config::from_file(file), directory);
}
LoadedRun load_run(const std::string& given) {
  const Activity activity("loading " + given);
  const auto named = find_run(given);
  const std::string directory = named ? named->directory : given;
  LoadedRun run;
  run.options = read_run_config(directory);
  const auto checkpoint = named && !named->checkpoint.empty() ? std::optional(named->checkpoint)
                                                              : latest_checkpoint(directory);
  if (!checkpoint) throw UserError(fmt::format("{} has no whole checkpoint yet", directory));
  const CheckpointContents contents = read_checkpoint(*checkpoint);
  run.checkpoint = *checkpoint;
  run.step = contents.state.value("step", int64_t(0));
  run.model = make_run_model(run.options);
  run.model->load(contents.model);
  run.model->train(false);
  run.verdict = verdict_on_disk(directory, contents.state);
  run.leaks = run.verdict.leaks();
  run.data_hash = contents.state.value("data_hash", "");
  if (std::filesystem::exists(file_in(directory, std::string(kTokenizerFile))))
    run.tokenizer = load_tokenizer(directory);
  return run;
}

}  // namespace reverie
