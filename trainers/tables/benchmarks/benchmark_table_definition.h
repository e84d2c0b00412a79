#pragma once
/// The definition of tables of the kind "benchmarks".

#include "trainers/tables/definition.h"

namespace reverie {

/// A benchmark task by the ways in which a published model is asked: names or files of definitions
/// (configs/tasks); "" where there is no such way.
struct AskedTask final : Fieldset {
  std::string base, zero_shot, few_shot;
  void fields(Fields&) override;
};

/// A published model that was not trained on the tasks, and runs with latents beside it.
struct AskedModel final : Fieldset {
  std::string model, runs;           ///< paths
  std::vector<std::string> latents;  ///< models of the table that made `runs`
  /// Latents are made anew after so many tokens of a written answer (0: once); a row for each.
  std::vector<int64_t> latents_every = {0};
  Named<AskedTask> tasks;
  int64_t limit = 0;
  bool given() const { return !model.empty(); }
  void fields(Fields&) override;
};

struct BenchmarkMeasureOptions final : Fieldset {
  int64_t items = 0, batch_tokens = 4096, resamples = 10000;
  void fields(Fields&) override;
};

struct BenchmarkPreset final : TablePreset {
  std::vector<std::string> tasks;
  Named<Json> task_patches;
  Named<std::vector<int64_t>> cells;  ///< by model: numbers of latents; none: it has no latents
  Named<int64_t> stages;              ///< by task: stages of the models that are trained in stages
  AskedModel asked;
  BenchmarkMeasureOptions measure;
  void fields(Fields&) override;
};

struct BenchmarkTableDefinition final : TableDefinitionWith<BenchmarkPreset> {
  BenchmarkTableDefinition() : TableDefinitionWith("benchmarks") {}
  TableReport report;
  Named<Json> tasks;                         ///< patches
  Named<std::string> from;                   ///< by model: the model whose weights it begins with
  Named<std::vector<std::string>> compared;  ///< by model: those that it must beat besides the base
  std::vector<std::string> staged, shuffled;  ///< models
  std::string baseline;
  void fields(Fields&) override;
};

}  // namespace reverie
