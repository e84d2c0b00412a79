#pragma once
/// The plots of run reports.

#include <string>
#include <vector>

#include "trainers/tables/runs/run_record.h"

namespace reverie {

/// A steps axis long enough for all of them.
double steps_of(const std::vector<RunRecord>& runs);

/// All losses of one run: training batches, and both splits in evaluations.
LinePlot losses_of_run(const RunRecord& run);
/// Losses by position in the window, memory carried and reset; of a run that carries memory.
LinePlot carried_by_position(const RunRecord& run);
/// One value of several runs.
LinePlot value_of_runs(const std::vector<RunRecord>& runs, const std::string& title,
                       const std::string& unit, const std::string& event, const std::string& key);
/// Learning rate, gradient norm and speed, as small panels.
std::string side_panels(const std::vector<RunRecord>& runs);

}  // namespace reverie
