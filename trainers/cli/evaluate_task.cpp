#include "trainers/cli/evaluate_task.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/sources.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/benchmarks/report.h"
#include "trainers/cli/evaluate_run.h"
#include "trainers/runs/output_files.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

// Where results are kept while an evaluation runs; "" where that cannot be.
std::string results_folder() {
  const std::string folder = (std::filesystem::path(cache_directory()) / "evaluations").string();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  try {
    if (!error) require_writable((std::filesystem::path(folder) / "results").string());
  } catch (const MachineError& e) {
    log_warning("{}", e.what());
    error = std::make_error_code(std::errc::permission_denied);
  }
  if (!error) return folder;
  log_warning("{} cannot be written: should this evaluation be killed, it begins anew", folder);
  return "";
}

}  // namespace

void add_task_options(CLI::App& command, TaskArguments& a, const std::vector<std::string>& others) {
  auto* task = command.add_option(
      "--task", a.task,
      "a benchmark: a name of configs/tasks (arc_easy, mmlu, lambada, gsm8k ...) or a definition's "
      "file; docs/benchmarks.md");
  for (const std::string& other : others) task->excludes(command.get_option(other));
  command
      .add_option("--few-shot", a.shots,
                  "solved examples in front of each item, instead of the "
                  "task's number")
      ->needs(task)
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--limit", a.limit,
                  "only the task's first so many items; every figure is labelled LIMITED")
      ->needs(task)
      ->check(CLI::PositiveNumber);
  command
      .add_option("--data", a.data, "another file of items; every figure is labelled OTHER DATA")
      ->needs(task)
      ->check(CLI::ExistingFile);
  command
      .add_option("--log-samples", a.sample_log,
                  "write every request, score and text to this file (JSON lines)")
      ->needs(task);
  command
      .add_option("--against", a.against,
                  "another model's --log-samples of the same items: paired difference, bootstrap "
                  "interval, McNemar's p")
      ->needs(task)
      ->check(CLI::ExistingFile);
  command
      .add_flag("--latents", a.latents,
                "for a model with latents: put them behind every context; otherwise its base is "
                "asked")
      ->needs(task);
  command
      .add_option("--latents-every", a.latents_every,
                  "with --latents, for answers that the model writes: make the latents anew after "
                  "every so many tokens of an answer, in place of the old ones; 0: once")
      ->needs(task)
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--batch-tokens", a.batch_tokens,
                  "most tokens in one forward, for less memory or more speed; scores stay the same")
      ->needs(task)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

void evaluate_task(const std::string& path, const OpenOptions& open, const std::string& json,
                   const TaskArguments& a) {
  const DefinitionFile task = read_benchmark(a.task);
  BenchmarkOptions options;
  options.latents = a.latents;
  options.latents_every = a.latents_every;
  options.batch_tokens = a.batch_tokens;
  require_askable(task.definition, options);
  const BenchmarkItems items = read_items(task, {a.shots, a.limit, a.data});
  require_outputs({{"--json", json}, {"--log-samples", a.sample_log}},
                  {{"the task's items", items.data_file}});
  std::optional<OtherResult> other;
  if (!a.against.empty()) other = read_sample_log(a.against, task, items);
  const UsableModel model = open_language_model(path, open);
  if (!model.verdict.label().empty()) log_warning("{}", model.verdict.line());
  options.results_folder = results_folder();
  const BenchmarkResult result = run_benchmark(model, task, items, options);
  const bool augmented = dynamic_cast<AugmentedModel*>(model.model.get()) != nullptr;
  const BenchmarkReport report{task,      items,     result,          model.description,
                               a.latents, augmented, !a.data.empty(), a.latents_every};
  std::optional<Comparison> against;
  if (other) against = compared(report, *other);
  fmt::print("{}", fit_terminal(STDOUT_FILENO, report_text(report, against)));
  std::fflush(stdout);
  if (!a.sample_log.empty()) write_file_atomically(a.sample_log, sample_log(report));
  if (!json.empty())
    write_file_atomically(json, json_text_replacing(report_json(report, against), 2) + "\n");
  result.kept->remove();  // a full disk has lost nothing until here
  if (const auto run = find_run(path)) keep_leak(run->directory, result.verdict);
  report_verdict(model.verdict, result.verdict);
}

}  // namespace reverie
