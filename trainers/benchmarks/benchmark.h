#pragma once
/// A model on a benchmark's items.

#include <memory>
#include <string>
#include <vector>

#include "datasets/benchmarks/items.h"
#include "trainers/benchmarks/measures.h"
#include "trainers/benchmarks/results_file.h"
#include "trainers/evaluation/model_source.h"

namespace reverie {

struct BenchmarkOptions {
  bool latents = false;         ///< an AugmentedModel's latents stand behind every context
  int64_t batch_tokens = 4096;  ///< most in one forward; no score depends on it
  std::string results_folder;   ///< where results are kept while it runs; "": nowhere
  bool shuffled = false;        ///< the latents of another context: a control
  /// Latents are made anew after every so many tokens of a written answer, and take the place of
  /// the old ones; 0: once.
  int64_t latents_every = 0;
};
/// UserError for latents_every without latents, and for tasks behind whose contexts no text is
/// written.
void require_askable(const BenchmarkDefinition& definition, const BenchmarkOptions& options);

struct BenchmarkResult {
  std::vector<Json> results;  ///< of each item, see Measure
  std::vector<Measure> measures;
  Verdict verdict;     ///< the model's, and what this evaluation found
  int64_t cut = 0;     ///< items whose beginning did not fit the model
  int64_t before = 0;  ///< items that an evaluation which was killed had scored
  double seconds = 0;  ///< for the others
  /// Keeps the results for another evaluation, until whoever has stored them says remove().
  std::shared_ptr<ResultsFile> kept;
};

/// Scores all items. Each result is kept as soon as it is there, under a key of the model (weights,
/// config, dtype, program and plugins), the tokenizer, the task's definition, its data and the
/// options; an evaluation of the same key goes on from there, in the same batches, so that it ends
/// with the same figures.
BenchmarkResult run_benchmark(const UsableModel& model, const DefinitionFile& task,
                              const BenchmarkItems& items, const BenchmarkOptions& options);

/// XXH3-128 of the definition with all its defaults.
std::string definition_hash(const BenchmarkDefinition& definition);

}  // namespace reverie
