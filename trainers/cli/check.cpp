#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/causality.h"
#include "trainers/training/checkpoint.h"
#include "trainers/training/resume_check.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct CausalityArguments {
  ConfigArguments target;
  std::string json;
};

void run_causality(const CausalityArguments& a) {
  Component model;
  NamedTensors weights;
  const bool is_run = is_run_directory(a.target.file);
  if (is_run) {
    LoadedRun r = load_run(a.target.file);
    model = r.options.model;
    weights = r.model->state();
    log_info("probing {} with its trained weights, in f64", r.checkpoint);
  } else {
    model = a.target.experiment().model;
    // The vocabulary is the data's; the probe needs none of it.
    if (model_field(model, "vocab_size", 0) == 0) model = with_model_field(model, "vocab_size", 65);
    log_info("probing the model of {} with redrawn weights, in f64", a.target.file);
  }
  const CausalityReport report =
      probe_causality(*probing_copy(model, is_run ? &weights : nullptr), {});
  if (!a.json.empty()) write_file_atomically(a.json, report.json().dump(2) + "\n");
  fmt::print("{}\n", report.text());
  if (!report.causal()) exit_with(int(ExitCode::check_failed));
}

struct ResumeArguments {
  ConfigArguments config;
  int64_t steps = 12, kill_at = 5;
  std::string directory = "runs/check-resume";
};

void run_resume(const ResumeArguments& a) {
  const ResumeCheck check = check_resume(a.config.experiment(), a.steps, a.kill_at, a.directory);
  if (!check.ok()) {
    for (const auto& d : check.differences) fmt::print("{}\n", d);
    fmt::print(
        "NOT bit-exact: {} steps in one go and {} + kill + resume + {} end in different states\n",
        check.steps, check.killed_at, check.steps - check.killed_at);
    exit_with(int(ExitCode::check_failed));
  }
  fmt::print(
      "bit-exact: {} steps in one go equal {} steps, kill -9, resume, {} steps (weights, moments, "
      "random state, losses)\n",
      check.steps, check.killed_at, check.steps - check.killed_at);
}

}  // namespace

void add_check_command(CLI::App& app) {
  auto* command = app.add_subcommand("check", "Prove a property: exits 0 if it holds, 5 if not");
  command->require_subcommand(1);

  auto* causality = command->add_subcommand(
      "causality", "Does any logit depend on what it must not see? Probes a model as a black box");
  auto c = std::make_shared<CausalityArguments>();
  causality
      ->add_option("target", c->target.file,
                   "experiment config (weights are redrawn) or run directory (trained weights)")
      ->required();
  c->target.add_overrides(*causality);
  causality->add_option("--json", c->json, "also write every probe to this file");
  causality->callback([c] { run_causality(*c); });

  auto* resume = command->add_subcommand(
      "resume", "Is resuming bit-exact? N steps in one go against k, kill -9, resume, N - k");
  auto r = std::make_shared<ResumeArguments>();
  r->config.add_to(*resume);
  resume->add_option("--steps", r->steps, "N")->capture_default_str();
  resume
      ->add_option("--kill-at", r->kill_at,
                   "k: the checkpoint that is resumed from; the kill comes a step later")
      ->capture_default_str();
  resume->add_option("--run-dir", r->directory, "scratch directory, emptied")
      ->capture_default_str();
  resume->callback([r] { run_resume(*r); });
}

}  // namespace reverie
