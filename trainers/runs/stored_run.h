#pragma once
/// Runs on disk: what a reader makes of a run directory.

#include <memory>
#include <string>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// Streams of a run's seed: independent, so that e.g. more dropout does not reshuffle the data.
enum SeedStream : uint64_t { kWeights = 1, kDropout = 2, kBatches = 3, kSamples = 4 };

/// The run's model with its initial weights.
std::unique_ptr<LanguageModel> make_run_model(const ExperimentOptions&);

/// config.resolved.json, plugins loaded. UserError where it is no run directory.
ExperimentOptions read_run_config(const std::string& run_directory);
/// The verdict of a checkpoint's state, of the summary where the run has finished, and of leak.json:
/// a leak in any of them stays.
Verdict verdict_on_disk(const std::string& run_directory, const Json& state);
/// The verdict on the run, or its export, that a model is built beside (`base` or `path` of its
/// options as JSON): its leak, as one of the model's own from step 0; nothing where there is none.
Verdict verdict_of_base(const Json& model);

/// The model of a run with the weights of its newest whole checkpoint, or of the one that is named
/// (see find_run()), and the tokenizer it was trained with. DataError where config, data or
/// tokenizer of the directory are not those that the checkpoint records.
struct LoadedRun {
  ExperimentOptions options;
  std::unique_ptr<LanguageModel> model;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: the run's data came without one
  std::string checkpoint;
  int64_t step = 0;       ///< of the checkpoint
  Verdict verdict;        ///< the checkpoint's and the summary's
  std::string data_hash;  ///< of the tokens it was trained on
  bool leaks = false;
};
LoadedRun load_run(const std::string& run);

}  // namespace reverie
