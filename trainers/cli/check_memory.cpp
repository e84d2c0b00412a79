#include "trainers/cli/check_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/checks/memory_check.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/evaluate_run.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/output_files.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

struct MemoryArguments {
  std::string run, json;
  int64_t windows = 1024, batch_size = 32;
  bool other_data = false;
};

ConsecutiveWindows texts_of(const LoadedRun& run, const Dataset& data, const MemoryArguments& a) {
  if (data.examples)
    throw ConfigError(fmt::format(
        "{} was trained on examples ($.data.examples), each a text of one window: wanted a text or "
        "documents that go on from window to window",
        a.run));
  return ConsecutiveWindows(data.validation, data.documents, a.batch_size, run.model->block_size(),
                            a.windows, data.validation_rule());
}

void run_memory(const MemoryArguments& a) {
  require_outputs({{"--json", a.json}}, {});
  if (!names_run(a.run))
    throw ConfigError(fmt::format(
        "{} is no run directory: wanted a trained run (RUN, RUN@1000, RUN@best), whose own "
        "validation text is read",
        a.run));
  const LoadedRun r = load_run(a.run);
  const RunData opened = open_run_data(a.run, r, a.other_data);
  if (opened.other) log_warning("OTHER DATA: {}", opened.note);
  const ConsecutiveWindows windows = texts_of(r, opened.data, a);
  ForwardAudit audit = ForwardAudit::once(r.step);
  std::optional<Activity> activity(std::in_place, "checking the memory");
  const MemoryCheck check = check_memory(
      *r.model, windows, [&](int64_t done, int64_t all) { activity->reach(done, all); }, &audit);
  activity.reset();

  Verdict verdict = r.verdict;
  verdict.merge(audit.verdict());
  Json out = check.json();
  out["run"] = a.run;
  out["checkpoint"] = r.checkpoint;
  out["step"] = r.step;
  out["dataset"] = opened.data.name();
  out["dataset_hash"] = opened.data.hash;
  out["verdict"] = verdict.json();
  if (!verdict.label().empty()) out["label"] = verdict.label();
  if (opened.other) out["other_data"] = {{"trained_on", r.data_hash}, {"note", opened.note}};
  if (!a.json.empty()) write_file_atomically(a.json, json_text_replacing(out, 2) + "\n");
  const std::string figures = check.text(verdict.mark() + (opened.other ? "  OTHER DATA" : ""));
  fmt::print("{}\n", fit_list(STDOUT_FILENO, r.checkpoint + "\n" + figures + verdict.mark()));
  if (const auto run = find_run(a.run)) keep_leak(run->directory, verdict);
  report_verdict(r.verdict, verdict);
  if (!check.holds() || verdict.leaks()) exit_with(int(ExitCode::check_failed));
}

}  // namespace

void add_memory_check(CLI::App& check) {
  auto* memory = check.add_subcommand(
      "memory",
      "Check that a trained model uses its memory across windows: the loss on its own validation "
      "texts with memory carried from window to window, and with it wiped, swapped with another "
      "text's, frozen, and wiped layer by layer");
  auto a = std::make_shared<MemoryArguments>();
  memory
      ->add_option("run", a->run,
                   "a run directory (RUN@1000 and RUN@best for one of its checkpoints)")
      ->required();
  memory
      ->add_option("--windows", a->windows,
                   "validation windows to read, about so many: of texts evenly spaced, the first "
                   "sqrt(windows) each; 0: all texts, whole")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  memory->add_option("--batch-size", a->batch_size, "texts that are read side by side")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  memory->add_flag("--other-data", a->other_data,
                   "read the run's text even if it has changed since training; the figures are "
                   "labelled");
  memory->add_option("--json", a->json, "also write every figure to this file");
  memory->callback([a] { run_memory(*a); });
}

}  // namespace reverie
