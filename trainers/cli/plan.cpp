#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/training/plan.h"

namespace reverie {

void add_plan_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("plan", "What a run will take: parameters, operations, memory");
  auto a = std::make_shared<ConfigArguments>();
  auto as_json = std::make_shared<bool>(false);
  a->add_to(*command);
  command->add_flag("--json", *as_json, "print JSON");
  command->callback([a, as_json] {
    const Plan p = plan_run(a->experiment());
    if (*as_json) {
      fmt::print("{}\n", p.json().dump(2));
      return;
    }
    const double mib = 1 << 20;
    fmt::print("parameters            {}\n", p.parameters);
    fmt::print("tokens per step       {}\n", p.tokens_per_step);
    fmt::print("operations per step   {:.2f} GFLOP (forward and backward)\n", p.step_flops / 1e9);
    fmt::print("operations per run    {:.2f} TFLOP\n", p.step_flops * double(p.steps) / 1e12);
    fmt::print("weights, gradients    {:.1f} MiB\n", p.weight_bytes * 2 / mib);
    fmt::print("optimizer             {:.1f} MiB\n", p.weight_bytes * 2 / mib);
    fmt::print("peak of one step      {:.1f} MiB (measured on a step of random tokens)\n",
               p.peak_bytes / mib);
  });
}

}  // namespace reverie
