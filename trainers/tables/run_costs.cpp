#include "trainers/tables/run_costs.h"

#include <fmt/format.h>

#include "trainers/runs/experiment.h"
#include "trainers/text/quantities.h"
#include "trainers/training/plan.h"

namespace reverie {

std::string cost_headings() {
  return fmt::format("{:>14} {:>8} {:>14} {:>14}", "parameters", "steps", "TFLOP a run",
                     "MiB at peak");
}

std::string cost_columns(const PlannedRun& run, const std::string& directory) {
  const Plan p = plan_run(read_experiment(run.config, directory));
  return fmt::format("{:>14} {:>8} {:>14.2f} {:>14.1f}", format_integer(p.parameters), p.steps,
                     p.step_flops * double(p.steps) / 1e12, p.peak_bytes / double(1 << 20));
}

}  // namespace reverie
