#pragma once
/// Proof that resuming is bit-exact.

#include <string>
#include <vector>

#include "trainers/runs/experiment.h"

namespace reverie {

struct ResumeCheck {
  int64_t steps = 0, killed_at = 0;
  std::vector<std::string> differences;  ///< empty: bit-exact
  bool ok() const { return differences.empty(); }
};

/// Trains `steps` steps in one go; then `killed_at` of them in a child process that is killed with
/// SIGKILL mid-way after its checkpoint, resumes to the end, and compares every weight, every
/// moment, the training state and all losses bit by bit. Works in (and empties) `directory`.
ResumeCheck check_resume(const ExperimentOptions& options, int64_t steps, int64_t killed_at,
                         const std::string& directory);

}  // namespace reverie
