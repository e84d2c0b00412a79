#pragma once
// What a run will take.

#include "trainers/training/experiment.h"

namespace reverie {

struct Plan {
  int64_t parameters = 0, tokens_per_step = 0, steps = 0;
  double step_flops = 0;    // forward and backward of one step (backward counted twice the forward)
  double weight_bytes = 0;  // of the parameters
  double peak_bytes = 0;    // tensor bytes at the peak of one step, weights and optimizer included
  Json json() const;
};

// Builds the model and runs one step on random tokens to measure its peak. A vocabulary of 0 (the
// data's) is taken as 65 when the data is not at hand.
Plan plan_run(const ExperimentOptions&);

}  // namespace reverie
