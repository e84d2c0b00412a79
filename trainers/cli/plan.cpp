#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/exporting/random_base.h"
#include "trainers/runs/shrunk_experiment.h"
#include "trainers/tables/repro.h"
#include "trainers/text/terminal.h"
#include "trainers/training/plan.h"

namespace reverie {
namespace {

struct PlanArguments {
  ConfigArguments config;
  std::string preset = "smoke", gpu;
  std::vector<std::string> of_table;
  int ranks = 1;
  double utilisation = 0.4;
  int64_t shrink = 1;
  bool as_json = false, preset_given = false;
};

ExperimentOptions experiment_of(const PlanArguments& a, const std::string& scratch) {
  if (a.shrink == 1) return a.config.experiment();
  const ShrunkExperiment shrunk =
      shrunk_experiment(a.config.config(), a.config.directory(), {a.shrink, scratch, true, false});
  if (!shrunk.base.empty()) write_random_base(shrunk.base_shape, shrunk.base);
  return read_experiment(shrunk.config, a.config.directory());
}

std::string names_of_gpus() {
  std::string names;
  for (const GpuRates& gpu : gpu_rates()) names += (names.empty() ? "" : ", ") + gpu.name;
  return names;
}

std::string on_gpu(const Plan& p, const GpuRates& gpu, const PlanArguments& a, bool bf16) {
  const double most = p.most_bytes();
  return fmt::format(
      "on {} x {:<14}{:.3g} hours at {:.0f} % of {:.4g} TFLOP/s ({}, data sheet{})\n"
      "memory of {:<12}{:.1f} of {:.1f} GiB: {}\n",
      p.ranks, gpu.name, p.seconds_on(gpu, a.utilisation, bf16) / 3600, 100 * a.utilisation,
      (bf16 ? gpu.bf16 : gpu.f32) / 1e12, bf16 ? "bf16" : "f32",
      a.utilisation == 0.4 ? "; the share is assumed: --utilisation" : "", gpu.product,
      most / double(1 << 30), gpu.memory / double(1 << 30),
      most < gpu.memory ? "fits, as far as tensors are counted" : "does not fit");
}

std::string lines_of(const Plan& p) {
  const double mib = 1 << 20;
  std::string out;
  const auto line = [&](const char* what, double bytes, const std::string& note = "") {
    out += fmt::format("{:<22}{:.1f} MiB{}\n", what, bytes / mib, note);
  };
  out += fmt::format("parameters            {} ({} trained)\n", p.parameters, p.trained_parameters);
  out += fmt::format("tokens per step       {}\n", p.tokens_per_step);
  out += fmt::format("operations per step   {:.2f} GFLOP (of all kernels, forward and backward)\n",
                     p.step_flops / 1e9);
  out += fmt::format("operations per run    {:.2f} TFLOP\n", p.step_flops * double(p.steps) / 1e12);
  if (p.ranks > 1)
    out += fmt::format(
        "for each of {} ranks (of those with the most sequences, the one that keeps the most):\n",
        p.ranks);
  line("frozen weights", p.frozen_bytes,
       p.frozen_bytes > 0 ? fmt::format(" (as they lie on device {})", p.device) : "");
  const double trained = p.weight_bytes - p.frozen_bytes;
  line("trained weights", trained,
       trained < p.gradient_bytes
           ? " (f32: this rank's share, and what is read otherwise than by products)"
           : "");
  line("gradients", p.gradient_bytes);
  if (p.rounded_bytes > 0) line("copies in bf16", p.rounded_bytes, " (of trained matrices)");
  line("optimizer", p.optimizer_bytes);
  if (p.carried_bytes > 0)
    line("memory carried", p.carried_bytes, " (by the texts of a batch, to the next step)");
  line("kept between steps", p.kept_bytes, " (all of these, padded)");
  line("activations", p.activation_bytes);
  line("peak of one step", p.peak_bytes, " (tensors; no step was computed)");
  line("peak of evaluation", p.evaluation_peak_bytes);
  if (p.start_peak_bytes > p.peak_bytes)
    line("peak at the start", p.start_peak_bytes,
         " (before the first step: parameters as they were made, beside gradients)");
  out += fmt::format(
      "not counted           program and libraries, scratch inside kernels, buffers of ranks, the "
      "gate before the first step, prefix-only scores{}\n",
      p.ranks > 1 ? ", a sharded optimizer gathered on rank 0 for a checkpoint" : "");
  return out;
}

void plan(PlanArguments& a) {
  // The plan itself is made on the CPU, whatever device it counts for.
  const AbsentDevicesAllowed planning;
  if (!a.gpu.empty()) {
    find_gpu(a.gpu);
    for (const std::string& given : a.config.overrides)
      if (given.starts_with("device=") && given != "device=cuda")
        throw ConfigError(fmt::format(
            "--gpu {} plans for device cuda, and --set {} for another: leave one of them out",
            a.gpu, given));
    a.config.overrides.push_back("device=cuda");
  }
  if (Config::from_file(a.config.file, a.config.lenient).has("presets")) {
    require(!a.as_json, "--json is for the plan of one experiment; {} is a table", a.config.file);
    ReproOptions o;
    o.table_file = a.config.file;
    o.lenient = a.config.lenient;
    o.preset = a.preset;
    o.directory = "runs";
    o.overrides = a.config.overrides;
    o.table_overrides = a.of_table;
    o.shrink = a.shrink;
    std::optional<CostOptions> costs;
    if (a.ranks > 1 || !a.gpu.empty()) costs = CostOptions{a.ranks, a.gpu, a.utilisation};
    fmt::print("{}", fit_list(STDOUT_FILENO, plan_table_text(o, costs)));
    return;
  }
  if (!a.of_table.empty())
    throw ConfigError(
        fmt::format("--set-table changes a table; {} is one experiment: use --set", a.config.file));
  if (a.preset_given)
    throw ConfigError(
        fmt::format("--preset {} is one of a table; {} is one experiment: leave it out, or name a "
                    "table",
                    a.preset, a.config.file));
  // For the shape of a shrunk base.
  const TemporaryFolder scratch(std::filesystem::temp_directory_path() / "reverie", "plan");
  const ExperimentOptions options = experiment_of(a, scratch.path());
  const Plan p = plan_run(options, a.ranks);
  const bool bf16 = options.precision == "bf16";
  if (a.as_json) {
    Json out = p.json();
    if (options.shrunk_by > 1) out["shrunk_by"] = options.shrunk_by;
    if (!a.gpu.empty()) {
      const GpuRates& gpu = find_gpu(a.gpu);
      out["gpu"] = {{"name", gpu.name},
                    {"utilisation", a.utilisation},
                    {"rate", bf16 ? gpu.bf16 : gpu.f32},
                    {"memory", gpu.memory},
                    {"hours", p.seconds_on(gpu, a.utilisation, bf16) / 3600}};
    }
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  std::string out = lines_of(p);
  if (options.shrunk_by > 1)
    out = fmt::format("shrunk by {}: these are no sizes of the experiment itself\n",
                      options.shrunk_by) +
          out;
  if (!a.gpu.empty()) out += on_gpu(p, find_gpu(a.gpu), a, bf16);
  fmt::print("{}", fit_list(STDOUT_FILENO, out));
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto* command = app.add_subcommand("plan",
                                     "Estimate the cost of a run or table: parameters, operations, "
                                     "memory");
  auto a = std::make_shared<PlanArguments>();
  a->config.add_to(*command);
  auto* preset =
      command->add_option("--preset", a->preset, "for a table: estimate all runs of this preset")
          ->capture_default_str();
  command
      ->add_option("--set-table", a->of_table,
                   "override one value of the table itself, as in repro (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--ranks", a->ranks, "processes that train one model; memory is of one of them")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto* gpu = command->add_option(
      "--gpu", a->gpu,
      "hours and memory on this GPU, by its data sheet, as of device cuda: " + names_of_gpus());
  command
      ->add_option("--utilisation", a->utilisation,
                   "share of the data sheet's rate that a step reaches; measure it, this is no "
                   "forecast")
      ->check(CLI::Range(0.001, 1.0))
      ->capture_default_str()
      ->needs(gpu);
  add_shrink(*command, a->shrink);
  command->add_flag("--json", a->as_json, "print JSON");
  command->callback([a, preset] {
    a->preset_given = preset->count() > 0;
    plan(*a);
  });
}

}  // namespace reverie
