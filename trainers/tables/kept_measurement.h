#pragma once
/// Measurements of finished runs in files beside them: whose weights they are of, and whether they
/// may be used again.

#include <string>

#include "core/config.h"

namespace reverie {

/// Says in a file's JSON from which checkpoint it was made: "checkpoint", its directory, and
/// "checkpoint_weights", the hash of its model.safetensors.
void name_checkpoint(Json& made, const std::string& checkpoint);

/// Whether `file`, whose JSON names a checkpoint, was made from the run's newest whole one. Files
/// of earlier versions name its directory alone, which must be of the newest step, or nothing: they
/// must not be older than the newest checkpoint. True where the run has no checkpoints any more,
/// and for what is no run: there is nothing to make it anew from, or nothing to compare with.
bool is_of_newest_checkpoint(const Json& made, const std::string& file,
                             const std::string& run_directory);

/// The measurement in `file`, where it is of the settings `wanted` ("of") and of the run's newest
/// checkpoint; else null. DataError for a damaged file.
Json kept_measurement(const std::string& file, const Json& wanted,
                      const std::string& run_directory);

}  // namespace reverie
