#pragma once
/// What happens in a run directory before the first step: it is locked, compared with the run that is
/// to train in it, and described.

#include <optional>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/run_directory.h"

namespace reverie {

/// Refuses before any long work what open_run() would refuse after it: a directory in which another
/// process trains, that holds a run of another config, or one of this config that is not to be
/// resumed. Locks the directory, and makes it where there is none, so that a second process is refused
/// at once; it is removed again where the run is refused before open_run().
void require_free(RunDirectory&, const Json& resolved_config, bool resume);

struct OpenedRun {
  std::optional<StoredCheckpoint> newest;   ///< from which it goes on
  std::vector<std::string> config_changes;  ///< see RunView
};

/// Locks the directory, and reads its newest whole checkpoint where the run is resumed. ConfigError
/// where it holds a run of another config, or one of this config that is not to be resumed; DataError
/// where none of its checkpoints is whole. A warning where there is nothing to resume, unless the run
/// `may_begin_anew`. `optimizer` says whether a longer run has other learning rates.
OpenedRun open_run(RunDirectory&, const ExperimentOptions&, const Json& resolved_config,
                   const Optimizer& optimizer, bool resume, bool may_begin_anew);

/// Writes the config, where the data come from and their tokenizer. The summary of a run that gets
/// longer than `step` keeps another name.
void describe_run(const RunDirectory&, const ExperimentOptions&, const Json& resolved_config,
                  const Dataset&, int64_t step);

}  // namespace reverie
