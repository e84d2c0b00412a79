#pragma once
/// Checkpoints: directories that are whole or absent, whatever ends the writer.
///
///   RUN/checkpoints/step_00000100/model.safetensors
///                                 optimizer.safetensors
///                                 state.json
///                                 memory.safetensors  only of models that carry memory
///                                 COMPLETE    JSON: bytes and XXH3-128 of each file; written last
///
/// A checkpoint is filled under a hidden name (".step_00000100.tmp-PID") and renamed when all of it
/// is on disk. One that is replaced by another of the same step waits as "step_00000100.replaced-0"
/// until the new one is durable, and is a checkpoint like any other until then. One writer a run.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/safetensors.h"

namespace reverie {

struct CheckpointContents {
  NamedTensors model, optimizer;
  NamedTensors memory;  ///< carried from batch to batch; without any there is no file
  std::map<std::string, std::string> model_metadata;  ///< of model.safetensors
  Json state;  ///< the trainer's; finite numbers and valid UTF-8 only (InternalError otherwise)
};

/// Writes RUN/checkpoints/step_%08d and returns its path. After it is durable, the newest `keep`
/// steps up to `step` stay, and the step `also_keep`; older ones are removed (0: all stay; later
/// steps, left by a run that was resumed further back, are not touched). Leftovers of killed writers
/// are removed first. MachineError when the machine refuses (a full disk, no permission): the
/// message names the newest checkpoint that is still good, earlier ones are untouched and nothing
/// half-written stays behind.
std::string write_checkpoint(const std::string& run_directory, int64_t step,
                             const CheckpointContents& contents, int64_t keep,
                             std::optional<int64_t> also_keep = std::nullopt);

/// Removes what killed writers left: unfinished ones, and those that would be gone had removing them
/// not been interrupted after `step` was durable. For who has the run to itself.
void tidy_checkpoints(const std::string& run_directory, int64_t step, int64_t keep,
                      std::optional<int64_t> also_keep = std::nullopt);

/// Complete checkpoints (those with COMPLETE; contents not verified), oldest first.
std::vector<std::string> checkpoints_of(const std::string& run_directory);

/// Verifies every file against COMPLETE, then maps the tensors (read-only, CPU: clone what is to
/// change). DataError when something is missing, truncated or altered, with the file and both
/// hashes; UserError when there is no such directory.
CheckpointContents read_checkpoint(const std::string& directory);

struct StoredCheckpoint {
  std::string directory;
  CheckpointContents contents;
};
/// The newest checkpoint that verifies, as read_checkpoint() gives it; its bytes are hashed once. A damaged newer one is named in a warning and passed over.
/// Empty when none verifies; whether there were any at all, checkpoints_of() says.
std::optional<StoredCheckpoint> read_latest_checkpoint(const std::string& run_directory);
/// Its directory alone.
std::optional<std::string> latest_checkpoint(const std::string& run_directory);
/// XXH3-128 of a complete checkpoint's model.safetensors as COMPLETE says, without reading the
/// weights; nullopt where COMPLETE is damaged.
std::optional<std::string> stored_model_hash(const std::string& checkpoint);

}  // namespace reverie
