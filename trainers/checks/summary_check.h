#pragma once
/// Whether a finished run's figures are those of its checkpoint: computed anew, in a process that
/// never read the text before. A model that remembers what earlier evaluations showed it gives its
/// own process figures that no other gets.

#include <string>
#include <vector>

#include "trainers/runs/verdict.h"

namespace reverie {

struct SummaryCheck {
  struct Figure {
    std::string name;                          ///< its key in summary.json
    double stored = 0, anew = 0, allowed = 0;  ///< nats per target; rounding allows this difference
    bool same() const;
  };
  std::string checkpoint;
  int64_t step = 0;
  Verdict known;  ///< of the run, before this check
  std::vector<Figure> figures;
  /// One process read the text for all figures, since a copy of it failed.
  bool together = false;

  bool same() const;
  /// A figure that differs is a leak: the run's own evaluation had more than the model and the
  /// text.
  Verdict verdict() const;
  /// The label of every figure here: of what was known, and of what was found.
  std::string label() const;
  std::string text() const;
  Json json() const;
};

/// The losses of the final evaluation: teacher-forced on train and validation windows (of a mix, text
/// by text), and on those scored prefix by prefix; behind latents; with memory carried, and reset, on
/// the same windows. Each is computed in a copy of this process, which has read nothing yet. `run` may
/// name a checkpoint (find_run()). UserError where the run is not finished, was trained on another
/// device than the CPU, or the checkpoint is of another step than its summary.
SummaryCheck check_summary(const std::string& run);

/// Where the outcome of check_summary_in_own_process() stands in a run directory.
inline constexpr const char* kSummaryCheckFile = "summary_check.json";
/// Whether the figures of this summary were computed anew before.
bool summary_is_checked(const std::string& run_directory);
/// The verdict of `program check summary RUN` in a process of its own. A leak is kept in the run
/// directory. Where the process fails, the verdict says that it was not probed, and a warning why.
Verdict check_summary_in_own_process(const std::string& program, const std::string& run_directory);

}  // namespace reverie
