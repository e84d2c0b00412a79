#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/model_options.h"
#include "trainers/checks/mask_check.h"
#include "trainers/checks/resume_check.h"
#include "trainers/checks/summary_check.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/check_memory.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/probes/causality.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/output_files.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct CausalityArguments {
  ConfigArguments target;
  std::string json;
};

// The boundaries that a source of latents declares, on random texts.
Verdict ask_latents_of(AugmentedModel& model, int64_t texts) {
  Generator random(1);
  const auto drawn = [&] {
    Tensor tokens = Tensor::empty({texts, model.block_size()}, DType::i32);
    for (int64_t i = 0; i < tokens.numel(); ++i)
      tokens.mutable_data<int32_t>()[i] = int32_t(random.below(uint64_t(model.vocabulary_size())));
    return tokens;
  };
  const Tensor tokens = drawn(), donors = drawn();
  const LatentSizes sizes{model.options().groups, model.options().ahead};
  Verdict verdict = ask_separate_groups(model, tokens, sizes, sizes.groups, {});
  for (const bool train : {false, true}) {
    Asking asking;
    asking.train = train;
    verdict.merge(ask_latents(model, tokens, donors, sizes, asking));
  }
  return verdict;
}

void run_causality(const CausalityArguments& a) {
  require_outputs({{"--json", a.json}}, {{"the model", a.target.file}});
  int64_t texts = 3;
  Component model;
  NamedTensors weights;
  Verdict known;
  const bool is_run = names_run(a.target.file);
  if (is_run && (a.target.lenient || !a.target.overrides.empty()))
    throw ConfigError(
        fmt::format("{} is a run, which is probed as it was trained: --set and --lenient are for a "
                    "config; name one, or leave them out",
                    a.target.file));
  if (is_run) {
    LoadedRun r = load_run(a.target.file);
    known = r.verdict;
    texts = r.options.train.batch_size;
    model = r.options.model;
    weights = r.model->state();
    log_info("probing {} with its trained weights, in f64", r.checkpoint);
  } else {
    const ExperimentOptions experiment = a.target.experiment();
    model = experiment.model;
    texts = experiment.train.batch_size;
    model = with_vocabulary_without_data(model);  // the probe needs no data
    log_info("probing the model of {} with redrawn weights, in f64", a.target.file);
  }
  std::optional<Activity> activity(std::in_place, "probing causality");
  const auto copy = probing_copy(model, is_run ? &weights : nullptr);
  const CausalityReport report = probe_causality(*copy, {});
  auto* augmented = dynamic_cast<AugmentedModel*>(copy.get());
  const Verdict latents = augmented ? ask_latents_of(*augmented, texts) : Verdict();
  activity.reset();
  if (!a.json.empty()) write_file_atomically(a.json, json_text_replacing(report.json(), 2) + "\n");
  fmt::print("{}\n", fit_terminal(STDOUT_FILENO, report.text()));
  const auto print_line = [](const std::string& what, const Verdict& verdict) {
    fmt::print("{}\n", fit_terminal(STDOUT_FILENO, what + ": " + verdict.line()));
  };
  if (augmented) print_line("its latents", latents);
  if (is_run) print_line("the run's verdict", known);
  if (!report.causal() || latents.leaks() || known.leaks()) exit_with(int(ExitCode::check_failed));
}

struct ResumeArguments {
  ConfigArguments config;
  int64_t steps = 12, kill_at = 5;
  std::string directory = "runs/check-resume";
};

void run_resume(const ResumeArguments& a) {
  const ResumeCheck check = check_resume(a.config.experiment(), a.steps, a.kill_at, a.directory);
  if (!check.ok()) {
    std::string differences;
    for (const auto& d : check.differences) differences += d + "\n";
    fmt::print(
        "{}\n",
        fit_terminal(STDOUT_FILENO,
                     differences + fmt::format("NOT bit-exact: {} steps in one go and {} + kill + "
                                               "resume + {} end in different states",
                                               check.steps, check.killed_at,
                                               check.steps - check.killed_at)));
    exit_with(int(ExitCode::check_failed));
  }
  fmt::print("{}\n", fit_terminal(
                         STDOUT_FILENO,
                         fmt::format("bit-exact: {} steps in one go equal {} steps, "
                                     "kill -9, resume, {} steps (weights, moments, random "
                                     "state, losses)",
                                     check.steps, check.killed_at, check.steps - check.killed_at)));
}

struct MaskArguments {
  ConfigArguments config;
  int64_t texts = 2, groups = 4, length = 48, seed = 1;
};

void run_mask(const MaskArguments& a) {
  const ExperimentOptions options = a.config.experiment();
  Generator random(uint64_t(a.seed));
  const auto model = ModelRegistry::instance().make(options.model, Build{random, DType::f64});
  auto* augmented = dynamic_cast<AugmentedModel*>(model.get());
  if (!augmented)
    throw ConfigError(
        fmt::format("{}: the model's type is \"{}\", wanted \"augmented\": only such a model has "
                    "packed groups to check",
                    a.config.file, options.model.type));
  draw_zero_parameters(*augmented, random);
  const int64_t length = std::min(a.length, model->block_size()),
                ahead = augmented->options().ahead;
  require(length >= ahead + augmented->options().delay,
          "texts of {} tokens are too short for {} tokens ahead: raise --length", length, ahead);
  const auto drawn = [&](int64_t rows, int64_t columns, int64_t low, int64_t high) {
    Tensor t = Tensor::empty({rows, columns}, DType::i32);
    for (int64_t i = 0; i < t.numel(); ++i)
      t.mutable_data<int32_t>()[i] = int32_t(low + int64_t(random.below(uint64_t(high - low + 1))));
    return t;
  };
  log_info("{} texts of {} random tokens, {} groups in each, in f64", a.texts, length, a.groups);
  std::optional<Activity> activity(std::in_place, "checking the mask");
  const MaskCheck check =
      check_mask(*augmented, drawn(a.texts, length, 0, model->vocabulary_size() - 1),
                 drawn(a.texts, a.groups, 1 + augmented->options().delay, length + 1 - ahead));
  activity.reset();
  fmt::print("{}\n", fit_terminal(STDOUT_FILENO, check.text()));
  if (!check.ok()) exit_with(int(ExitCode::check_failed));
}

struct SummaryArguments {
  std::string run, json;
};

void run_summary_check(const SummaryArguments& a) {
  require_outputs({{"--json", a.json}}, {});
  const SummaryCheck check = check_summary(a.run);
  if (const auto run = find_run(a.run)) keep_leak(run->directory, check.verdict());
  if (!a.json.empty()) write_file_atomically(a.json, json_text_replacing(check.json(), 2) + "\n");
  fmt::print("{}", fit_terminal(STDOUT_FILENO, check.text()));
  if (!check.same()) exit_with(int(ExitCode::check_failed));
}

}  // namespace

void add_check_command(CLI::App& app) {
  auto* command = app.add_subcommand("check",
                                     "Check a property: exit code 0 if it holds, 5 if "
                                     "not");
  command->require_subcommand(1);

  auto* causality = command->add_subcommand(
      "causality",
      "Probe whether any logit depends on a token that it must not see; the model "
      "is a black box");
  auto c = std::make_shared<CausalityArguments>();
  causality
      ->add_option("target", c->target.file,
                   "an experiment's config (probed with random weights) or a run directory "
                   "(probed with its trained weights)")
      ->required();
  c->target.add_overrides(*causality);
  causality->add_option("--json", c->json, "also write every probe to this file");
  causality->callback([c] { run_causality(*c); });

  auto* resume = command->add_subcommand(
      "resume",
      "Check that resuming is bit-exact: train N steps without a break; train k steps, "
      "kill -9, resume, train N - k; compare");
  auto r = std::make_shared<ResumeArguments>();
  r->config.add_to(*resume);
  resume->add_option("--steps", r->steps, "N")->capture_default_str();
  resume
      ->add_option("--kill-at", r->kill_at,
                   "k: the step of the checkpoint that the run resumes from; the kill comes one "
                   "step later")
      ->capture_default_str();
  resume->add_option("--run-dir", r->directory, "scratch directory; its contents are deleted")
      ->capture_default_str();
  resume->callback([r] { run_resume(*r); });

  auto* mask = command->add_subcommand(
      "mask",
      "Check that a coprocessor's packed groups see their own prefix and nothing else: compare "
      "losses and gradients of one packed forward with one forward for each group");
  auto m = std::make_shared<MaskArguments>();
  m->config.add_to(*mask);
  mask->add_option("--texts", m->texts, "texts in the batch")->capture_default_str();
  mask->add_option("--groups", m->groups, "insertion points in each text")->capture_default_str();
  mask->add_option("--length", m->length, "tokens in each text")->capture_default_str();
  mask->add_option("--seed", m->seed, "seed of the tokens, insertion points and random weights")
      ->capture_default_str();
  mask->callback([m] { run_mask(*m); });

  auto* summary = command->add_subcommand(
      "summary",
      "Check that a finished run's figures are those of its checkpoint: score the windows of its "
      "final evaluation anew (train, validation, behind latents, memory carried and reset), in "
      "copies of this process, which never read them. A model that remembers what "
      "earlier evaluations showed it cannot do this; `train` and `repro` ask it at the end of "
      "every run");
  auto s = std::make_shared<SummaryArguments>();
  summary
      ->add_option("run", s->run,
                   "a finished run directory (also RUN@1000, where its figures are of that step)")
      ->required();
  summary->add_option("--json", s->json, "also write the figures and the verdict to this file");
  summary->callback([s] { run_summary_check(*s); });

  add_memory_check(*command);
}

}  // namespace reverie
