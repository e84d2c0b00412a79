#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/signals.h"
#include "trainers/checks/summary_check.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/distributed/device_communicator.h"
#include "trainers/distributed/launch.h"
#include "trainers/exporting/random_base.h"
#include "trainers/monitoring/profile_report.h"
#include "trainers/monitoring/run_callbacks.h"
#include "trainers/monitoring/run_overview.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/shrunk_experiment.h"
#include "trainers/tables/runs/run_report.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"
#include "trainers/training/plan.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct TrainArguments {
  ConfigArguments config;
  std::string run_directory;
  bool self_contained = false;
  bool resume = false, print_schema = false, print_config = false, quiet = false;
  int64_t stop_after = -1, profiled_steps = 0, shrink = 1;

  std::string directory() const {
    if (!run_directory.empty()) return run_directory;
    return "runs/" + std::filesystem::path(config.file).stem().string() +
           (shrink > 1 ? fmt::format("-shrunk-{}", shrink) : "");
  }
};

// The first rank makes what a shrunk experiment reads; the others wait for it.
ExperimentOptions experiment_of(const TrainArguments& a, Communicator& ranks) {
  if (a.shrink == 1) return a.config.experiment();
  const std::string made = std::filesystem::absolute(a.directory() + "-made").lexically_normal();
  const ShrunkExperiment shrunk = shrunk_experiment(a.config.config(), a.config.directory(),
                                                    {a.shrink, made, true, ranks.first()});
  if (ranks.first() && !shrunk.base.empty()) write_random_base(shrunk.base_shape, shrunk.base);
  ranks.all_gather("");
  return read_experiment(shrunk.config, a.config.directory());
}

// The verdict on a finished run, after a process that never read its text was asked, too.
Verdict final_verdict(const Trainer& trainer, const ExperimentOptions& options) {
  Verdict verdict = trainer.verdict();
  if (!trainer.communicator().first() || options.tensor_device().kind != DeviceKind::cpu)
    return verdict;
  verdict.merge(check_summary_in_own_process(kThisProgram, trainer.run_directory()));
  return verdict;
}

void train(const TrainArguments& a, const ExperimentOptions& options, Communicator& communicator) {
  RunControl control;
  control.communicator = &communicator;
  control.run_directory = a.directory();
  control.resume = a.resume;
  if (a.stop_after >= 0) control.stop_after = a.stop_after;
  std::optional<ProfileCallback> profiler;
  if (a.profiled_steps > 0 && communicator.first())
    control.callbacks.push_back(
        &profiler.emplace(a.profiled_steps, plan_run(options, communicator.size())));
  RunReportCallback report;
  if (communicator.first()) control.callbacks.push_back(&report);
  if (a.quiet || !communicator.first()) Activity::show_all(false);
  const StandardCallbacks callbacks({.progress = !a.quiet});
  Trainer trainer(options, callbacks.added_to(control));
  if (communicator.first()) log_info("{}", run_overview_text(trainer));
  if (trainer.leaks())
    log_warning("{}; every number below carries that label", trainer.verdict().line());
  if (trainer.run() == RunEnd::stopped) {
    log_info("stopped at step {}; go on with: `{} train --run-dir {} --resume`{}", trainer.step(),
             shell_word(program_name()), shell_word(control.run_directory),
             communicator.size() > 1 ? " (in as many ranks)" : "");
    if (const int signal = trainer.stop_signal()) exit_with(128 + signal);
    return;
  }
  const Verdict verdict = final_verdict(trainer, options);
  if (verdict.leaks() && !trainer.leaks()) report.on_end(trainer);  // it says so from now on
  // A leak that nobody allowed was found after the first step.
  const bool failed = verdict.leaks() && !options.allow_future_leak;
  if (!communicator.first()) {
    if (failed) exit_with(int(ExitCode::check_failed));
    return;
  }
  const Json s = read_summary(trainer.run_directory());
  log_info("{0}/summary.json\n{0}/report.html", trainer.run_directory());
  const std::string label = verdict.word();
  std::string figures = fmt::format(
      "{}train loss {:.4f}  val loss {:.4f}  val prefix-only {:.4f}  {}\n",
      s.contains("augmented") ? "the base alone: " : "", s.at("train_loss").get<double>(),
      s.at("val_loss").get<double>(), s.at("val_loss_prefix_only").get<double>(), label);
  if (s.contains("augmented"))
    figures += fmt::format(
        "behind latents: val loss {:.4f}, the base there {:.4f}  {}  ({} predictions, {})\n",
        s["augmented"].at("val_loss").get<double>(),
        s["augmented"].at("base_loss_on_same_predictions").get<double>(), label,
        s["augmented"].at("predictions").get<int64_t>(),
        s["augmented"].at("rule").get<std::string>());
  fmt::print("{}", fit_terminal(STDOUT_FILENO, figures));
  if (!failed) return;
  log_error(
      "{}. No number of this run is a language-modelling result. (With \"allow_future_leak\": "
      "true the run ends with exit code 0; its numbers stay labelled.)",
      verdict.line());
  exit_with(int(ExitCode::check_failed));
}

// One of several ranks: whatever ends it ends the others, and each message says whose it is.
void train_as_rank(const TrainArguments& a, std::shared_ptr<Communicator> host) {
  std::shared_ptr<Communicator> ranks = std::move(host);
  if (!ranks->first()) set_log_level(LogLevel::error);
  try {
    share_cores(*ranks);
    const ExperimentOptions options = experiment_of(a, *ranks);
    ranks = communicator_on(options.tensor_device(), ranks);
    if (ranks->first())
      log_info("{} ranks over {}, this one with {} threads", ranks->size(), ranks->kind(),
               omp_get_max_threads());
    train(a, options, *ranks);
  } catch (const CLI::Error&) {
    throw;  // an end in good order
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    const auto* interrupted = dynamic_cast<const Interrupted*>(&e);
    const int code = interrupted ? 128 + interrupted->signal
                                 : int(error ? error->exit_code() : ExitCode::runtime);
    if (ranks->first() || !ranks->failing_together())
      log_error("rank {}: {}", ranks->rank(), e.what());
    if (!ranks->failing_together()) ranks->abort(code, e.what());
    exit_with(code);
  } catch (...) {
    ranks->abort(int(ExitCode::runtime), "a plugin threw something that is no std::exception");
    throw;
  }
}

// --run-dir RUN@last is the run. A checkpoint is none to go on in: the run has metrics and
// checkpoints behind it.
void settle_run_directory(TrainArguments& a) {
  if (a.run_directory.empty()) return;
  const auto named = find_run(a.run_directory);
  if (!named) return;
  if (named->checkpoint.empty()) {
    if (a.resume || a.config.file.empty()) a.run_directory = named->directory;
    return;
  }
  throw ConfigError(fmt::format(
      "--run-dir {} is one checkpoint, and a run goes on from its newest: wanted `{} train "
      "--run-dir {} --resume`. To train another run from the weights of this checkpoint, export "
      "them (`reverie inspect {} --export-hf DIR`) and name DIR in a config: {{\"type\": "
      "\"pretrained\", \"path\": DIR}}",
      a.run_directory, shell_word(program_name()), shell_word(named->directory),
      shell_word(a.run_directory)));
}

void run(TrainArguments& a) {
  settle_run_directory(a);
  if (a.self_contained) a.config.overrides.push_back("checkpoint.self_contained=true");
  // A run knows its own config.
  if (a.config.file.empty() && a.resume && names_run(a.run_directory)) {
    a.config.file = file_in(a.run_directory, kConfigFile);
    read_stored_json(a.config.file);  // damage is a matter of the run, not of the command
  }
  if (a.print_schema) {
    ExperimentOptions options;
    fmt::print("{}\n", json_text(config_schema(options), 2));
    return;
  }
  const SignalGuard signals;
  if (a.config.file.empty())
    throw ConfigError(
        !a.resume && !a.run_directory.empty() && names_run(a.run_directory)
            ? fmt::format("{} is a run: to go on with it, add --resume; to train another in its "
                          "place, name a config and another --run-dir",
                          a.run_directory)
        : a.resume && !a.run_directory.empty()
            ? fmt::format("{} holds no run to resume: there is no config.resolved.json. To begin "
                          "one, name its config too",
                          a.run_directory)
            : "which experiment? Give a JSON file: `reverie train configs/shakespeare_gpt.json`");
  if (!a.print_config && launched_as_rank()) {
    train_as_rank(a, communicator_from_environment());
    return;
  }
  ExperimentOptions options = experiment_of(a, single_communicator());
  if (a.print_config) {
    fmt::print("{}\n", json_text(write_config(options), 2));
    return;
  }
  try {
    train(a, options, single_communicator());
  } catch (const Interrupted& i) {  // while the data were prepared
    log_info("stopped before the first step");
    exit_with(128 + i.signal);
  }
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("train", "Train a model from a JSON config into a run directory");
  auto a = std::make_shared<TrainArguments>();
  a->config.add_to(*command, false);
  command->add_option("--run-dir", a->run_directory,
                      "the run directory (default: runs/<config's name>)");
  command->add_flag(
      "--resume", a->resume,
      "continue from the newest complete checkpoint, bit-exactly. The config is taken from the "
      "run directory; --set may lengthen the run (train.steps) and change its evaluation, "
      "sample, checkpoint and distributed options");
  command
      ->add_option("--stop-after", a->stop_after,
                   "save a checkpoint and stop after this step; --resume continues the run")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--profile", a->profiled_steps,
                   "time this many steps by kernel and op, and compare with the machine's peak "
                   "rates; say what a step took of memory, beside its plan; writes profile.txt and "
                   "a trace for ui.perfetto.dev into the run "
                   "directory")
      ->type_name("STEPS")
      ->expected(0, 1)
      ->default_str("20")
      ->check(CLI::PositiveNumber);
  command->add_flag(
      "--self-contained", a->self_contained,
      "copy a frozen base into the run directory (checkpoint.self_contained), so that "
      "the run opens without it; otherwise checkpoints name it by path and hash");
  add_shrink(*command, a->shrink);
  command->add_flag("--quiet", a->quiet, "show no progress");
  command->add_flag("--print-schema", a->print_schema,
                    "print the JSON Schema of experiments and exit");
  command->add_flag("--print-config", a->print_config,
                    "print the config with every default filled in and exit");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
