#pragma once
/// Measurements of finished runs and of published models in files: whose weights they are of, and
/// whether they may be used again.

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

/// Says from which files of a published model it was made: "model_files", the bytes, time of change
/// and hash of each.
void name_published(Json& made, const std::string& path);

/// Whether `file` was made from the published model that lies at `path` now. Files of the same size
/// and time are the same; others are, where their bytes have the same hash. What earlier versions
/// measured names no files: it must not be older than they are. True where there is no model any
/// more, and where it was made from a run.
bool is_of_published(const Json& made, const std::string& file, const std::string& path);

/// The measurement in `file`, where it is of the settings `wanted` ("of") and of the weights that
/// `model` has now; else null. `model`: a run directory, whose newest checkpoint counts; a named
/// checkpoint (find_run()); or a published model. DataError for a damaged file.
Json kept_measurement(const std::string& file, const Json& wanted, const std::string& model);

}  // namespace reverie
