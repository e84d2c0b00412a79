#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/tables/repro.h"
#include "trainers/training/plan.h"

namespace reverie {

void add_plan_command(CLI::App& app) {
  auto* command = app.add_subcommand("plan",
                                     "Estimate the cost of a run or table: parameters, operations, "
                                     "memory");
  auto a = std::make_shared<ConfigArguments>();
  auto as_json = std::make_shared<bool>(false);
  auto preset = std::make_shared<std::string>("smoke");
  auto of_table = std::make_shared<std::vector<std::string>>();
  a->add_to(*command);
  command->add_option("--preset", *preset, "for a table: estimate all runs of this preset")
      ->capture_default_str();
  command
      ->add_option("--set-table", *of_table,
                   "override one value of the table itself, as in repro (repeatable)")
      ->allow_extra_args(false);
  command->add_flag("--json", *as_json, "print JSON");
  command->callback([a, as_json, preset, of_table] {
    if (Config::from_file(a->file, a->lenient).has("presets")) {
      require(!*as_json, "--json is for the plan of one experiment; {} is a table", a->file);
      ReproOptions o;
      o.table_file = a->file;
      o.lenient = a->lenient;
      o.preset = *preset;
      o.directory = "runs";
      o.overrides = a->overrides;
      o.table_overrides = *of_table;
      fmt::print("{}", plan_table_text(o));
      return;
    }
    if (!of_table->empty())
      throw ConfigError(
          fmt::format("--set-table changes a table; {} is one experiment: use --set", a->file));
    const Plan p = plan_run(a->experiment());
    if (*as_json) {
      fmt::print("{}\n", json_text(p.json(), 2));
      return;
    }
    const double mib = 1 << 20;
    fmt::print("parameters            {}\n", p.parameters);
    fmt::print("tokens per step       {}\n", p.tokens_per_step);
    fmt::print("operations per step   {:.2f} GFLOP (forward and backward)\n", p.step_flops / 1e9);
    fmt::print("operations per run    {:.2f} TFLOP\n", p.step_flops * double(p.steps) / 1e12);
    fmt::print("kept between steps    {:.1f} MiB (weights {:.1f}, their gradients, moments)\n",
               p.kept_bytes / mib, p.weight_bytes / mib);
    fmt::print("activations           {:.1f} MiB\n", p.activation_bytes / mib);
    fmt::print("peak of one step      {:.1f} MiB (tensors, measured in a step on random tokens)\n",
               p.peak_bytes / mib);
  });
}

}  // namespace reverie
