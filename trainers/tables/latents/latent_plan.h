#pragma once
/// Cost of the runs of a latent table, from the base's shape alone: its weights need not
/// be there.

#include <string>
#include <vector>

#include "layers/transformer.h"
#include "trainers/runs/experiment.h"
#include "trainers/tables/table_kind.h"

namespace reverie {

struct LatentPlan {
  int64_t trainable_parameters = 0;
  double step_flops = 0;    ///< one step, forward and backward
  double weight_bytes = 0;  ///< base, and the source of latents
  double state_bytes = 0;   ///< gradients and two moments of what is trained
};
/// Cost of one run beside (or of) `base`, whose values are not read; the run's model is "augmented"
/// or "pretrained". `stored`: the type of the matrices in the base's files, where these are absent;
/// a frozen base counts in it where the run's device keeps it so.
LatentPlan plan_latent_run(const Transformer& base, const ExperimentOptions& run,
                           DType stored = DType::f32);

/// One line for each cell of the runs (their first seed), and what all seeds take together.
std::string plan_latent_table(const Transformer& base, const std::string& base_name, DType stored,
                              const std::vector<PlannedRun>& runs, const std::string& directory);

}  // namespace reverie
