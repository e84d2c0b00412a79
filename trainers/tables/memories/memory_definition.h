#pragma once
/// The definition of tables of the kind "memory".

#include "trainers/runs/experiment.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/memories/memory_measurement.h"

namespace reverie {

struct MemoryPreset final : TablePreset {
  std::vector<std::string> models, tasks;  ///< none: all of the table's
  Named<Json> task_patches;
  MemoryMeasureOptions measure;
  void fields(Fields&) override;
};

struct MemoryDefinition final : TableDefinitionWith<MemoryPreset> {
  MemoryDefinition() : TableDefinitionWith("memory") {}
  TableReport report;
  Named<Json> tasks;
  std::string baseline, oracle;  ///< models' names
  void fields(Fields&) override;
};

/// Whether a model patch or config has "model.memory".
bool has_memory(const Config& experiment);

/// ConfigError where a run cannot stand in such a table: its text is not read by characters, its
/// block_size is not the task's window (of the oracle: the whole document), the task asks for
/// nothing beyond one window, its words are more than the model's vocabulary, or the model has a
/// memory that could be carried, and is not. `where`: "delta_rule on recall", for messages.
void require_fit_for_memory_table(const ExperimentOptions& experiment, const std::string& where,
                                  bool is_oracle, bool may_have_memory);

}  // namespace reverie
