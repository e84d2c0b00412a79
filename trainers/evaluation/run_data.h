#pragma once
/// The data of a finished run, as `eval RUN` reads it: the tokens it was trained on, or refused.

#include <string>

#include "datasets/dataset.h"
#include "trainers/runs/stored_run.h"

namespace reverie {

struct RunData {
  Dataset data;
  bool other = false;  ///< not what the run was trained on
  std::string note;    ///< says so, for people
};

/// Opens the data of the run's config and compares it with the hash in its checkpoint. Files that
/// were prepared for the run are never replaced: a text that has changed since is prepared in a
/// temporary folder. ConfigError when the tokens are others, unless `other_data`: then the text is
/// encoded by the run's own tokenizer, and must consist of what that one knows. `given`: as for
/// load_run().
RunData open_run_data(const std::string& given, const LoadedRun& run, bool other_data);

}  // namespace reverie
