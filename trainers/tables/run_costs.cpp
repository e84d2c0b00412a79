#include "trainers/tables/run_costs.h"

#include <fmt/format.h>

#include "trainers/runs/experiment.h"
#include "trainers/text/quantities.h"
#include "trainers/training/plan.h"

namespace reverie {

std::string cost_headings() {
  return fmt::format("{:>12} {:>7} {:>11} {:>11}", "parameters", "steps", "TFLOP a run",
                     "MiB at peak");
}

std::string cost_columns(const PlannedRun& run, const std::string& directory) {
  const Plan p = plan_run(read_experiment(run.config, directory));
  return fmt::format("{:>12} {:>7} {:>11.2f} {:>11.1f}", format_integer(p.parameters), p.steps,
                     p.step_flops * double(p.steps) / 1e12, p.peak_bytes / double(1 << 20));
}

}  // namespace reverie
