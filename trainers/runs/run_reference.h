#pragma once
/// How a command line names a run and one of its checkpoints.

#include <optional>
#include <string>

namespace reverie {

struct RunReference {
  std::string directory;
  std::string checkpoint;  ///< its folder; "": the newest whole one
};

/// RUN, RUN@1000 (the checkpoint of that step), RUN@best (of the lowest validation loss, see
/// checkpoint.keep_best), RUN@last, or the path of a checkpoint's folder inside a run. Nothing when
/// it is none of these. UserError when the run is there and the checkpoint is not: it lists those
/// that are.
std::optional<RunReference> find_run(const std::string& given);

}  // namespace reverie
