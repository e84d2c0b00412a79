#pragma once
/// The cost of a run.

#include "trainers/runs/experiment.h"

namespace reverie {

struct Plan {
  int64_t parameters = 0, tokens_per_step = 0, steps = 0;
  double step_flops = 0;        ///< forward and backward of one step (backward: twice the forward)
  double weight_bytes = 0;      ///< of the parameters
  double kept_bytes = 0;        ///< between steps: weights, gradients, the optimizer's moments
  double activation_bytes = 0;  ///< what one step takes besides, at its peak
  double peak_bytes = 0;        ///< both
  Json json() const;
};

/// Builds the model and runs one step on random tokens on the CPU, whatever device the run is for:
/// tensors have the same shapes there. A test holds this beside the peak of training itself, on each
/// device. A vocabulary of 0 (the data's) is taken as 65 when the data is not at hand.
Plan plan_run(const ExperimentOptions&);

}  // namespace reverie
