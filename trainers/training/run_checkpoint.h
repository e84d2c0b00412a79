#pragma once
/// Writes the state of a run into a checkpoint, and restores it from one.

#include <string>

#include "datasets/dataset.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/experiment.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/carried_memory.h"
#include "trainers/training/run_gate.h"
#include "trainers/training/run_state.h"

namespace reverie {

/// The parts of a run that a checkpoint saves, or is compared with.
struct SavedParts {
  const ExperimentOptions& options;
  const Json& resolved_config;
  const Dataset& dataset;
  const BatchSplit& split;
  Communicator& communicator;
  LanguageModel& model;
  Optimizer& optimizer;
  Sampler& sampler;
  CarriedMemory& carried;
  RunGate& gate;
  RunState& state;
};

/// machine_numerics() of this run.
Json numerics_of(const SavedParts&);

/// A collective; every rank gets all.
CheckpointContents checkpoint_contents(const SavedParts&);

/// Sets every part as it was when the checkpoint was written; default_generator(), too. ConfigError
/// where config or data are others than then, DataError where something is missing, a warning where
/// the machine's numerics differ.
void restore(const SavedParts&, const StoredCheckpoint&, const std::string& run_directory);

}  // namespace reverie
