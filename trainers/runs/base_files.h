#pragma once
/// Where the frozen base of a run lies: at the path of its config, or as a copy in the run directory
/// (checkpoint.self_contained).

#include <string>

#include "core/config.h"
#include "layers/language_model.h"

namespace reverie {

/// The run's own copy of its base: one file or directory in here.
inline constexpr const char* kBaseFolder = "frozen_base";

/// The run's model with its base where it is found: the run's own copy, or else the config's path.
/// DataError where it is at neither, and a checkpoint of the run wants it.
Component with_base_found(const Component& model, const std::string& run_directory);

/// Copies the files of the model's frozen base into the run directory, whole or not at all; of a
/// base that is a run, what it takes to open it. Nothing where there is no frozen base, or a copy
/// already. For who has the run to itself. MachineError where the machine refuses.
void copy_base(LanguageModel& model, const std::string& run_directory);

/// Says in the run's config that its base lies at `path` now. The run must not be training. DataError
/// where other weights lie there than its newest checkpoint wants.
void move_base(const std::string& run_directory, const std::string& path);

}  // namespace reverie
