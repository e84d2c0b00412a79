#pragma once
/// Compares the files of a run directory with what a checkpoint there records of its run.

#include <string>

#include "datasets/tokenizers/tokenizer.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// DataError where the config of the directory (`options`), its dataset.json or its `tokenizer`
/// (null: it has none) are not of the run whose checkpoint this is. May differ: the number of
/// steps, places of files and plugins, the device, and all that a resumed run may change. Earlier
/// versions recorded less, which is not compared.
void require_one_run(const std::string& run_directory, const ExperimentOptions& options,
                     const Tokenizer* tokenizer, const StoredCheckpoint& stored);

/// In state.json: the plugins of the process that wrote it, and their hashes.
inline constexpr const char* kPluginsKey = "plugins";
/// Warns of plugins that were rebuilt since this state.json was written. The verdict says that it
/// is of the earlier ones.
Verdict notes_on_plugins(const Json& state);

}  // namespace reverie
