#pragma once
/// summary.json: what a finished run has reached.

#include "trainers/training/callback.h"
#include "trainers/training/run_state.h"

namespace reverie {

/// `last`: the final evaluation. `largest_change`: see RunGate. `numerics`: see machine_numerics().
Json run_summary(const RunView&, const RunState&, const EvaluationInfo& last, double largest_change,
                 const Json& numerics);

}  // namespace reverie
