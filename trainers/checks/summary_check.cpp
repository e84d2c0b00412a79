#include "trainers/checks/summary_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/signals.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/probes/rounding.h"
#include "trainers/runs/run_directory.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

constexpr const char* kProbe =
    "the final figures against those of a process that never read the text";
constexpr const char* kOnPrefixWindows = "val_loss_on_prefix_only_windows";

// The largest loss of one target.
double largest_loss(LanguageModel& model, const EvaluationWindows& windows) {
  auto* augmented = dynamic_cast<AugmentedModel*>(&model);
  LanguageModel& scored = augmented ? static_cast<LanguageModel&>(augmented->base()) : model;
  const EvaluationMode mode(model);
  double largest = 0;
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    for (const double loss : row_losses(scored, scored.hidden(batch.tokens), batch.targets))
      largest = std::max(largest, loss);
  }
  return largest;
}

void require_comparable(const std::string& directory, const LoadedRun& run, const Json& summary) {
  if (run.options.tensor_device().kind != DeviceKind::cpu)
    throw UserError(fmt::format(
        "{} was trained on {}: its figures are computed anew on the CPU, which rounds otherwise",
        directory, run.options.device));
  if (const int64_t steps = summary.at("steps"); steps != run.step)
    throw UserError(fmt::format(
        "{}: summary.json is of step {}, the newest checkpoint of step {}; wanted one of the same "
        "step",
        directory, steps, run.step));
}

// Runs a program to its end, its output thrown away: "" or how it ended.
std::string failure_of_process(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t process = -1;
  const int error =
      ::posix_spawn(&process, arguments[0], &files, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fmt::format("did not start: {}", std::strerror(error));
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

bool SummaryCheck::Figure::same() const {
  return std::abs(stored - anew) <= allowed;
}

bool SummaryCheck::same() const {
  return std::all_of(figures.begin(), figures.end(), [](const Figure& f) { return f.same(); });
}

Verdict SummaryCheck::verdict() const {
  Verdict verdict;
  for (const Figure& f : figures)
    verdict.add({kProbe, fmt::format("{} {} in summary.json, {} anew", f.name, f.stored, f.anew),
                 std::abs(f.stored - f.anew), f.allowed, step});
  return verdict;
}

std::string SummaryCheck::label() const {
  Verdict all = known;
  all.merge(verdict());
  return all.label();
}

std::string SummaryCheck::text() const {
  std::string out = checkpoint + "\n";
  const std::string mark = label().empty() ? "" : "  " + label();
  for (const Figure& f : figures)
    out += fmt::format("{}: {:.6f} in summary.json, {:.6f} anew{}; rounding allows {:.2g}\n",
                       f.name, f.stored, f.anew, mark, f.allowed);
  return out + (same() ? "the same\n"
                       : "NOT THE SAME: the run's own process knew more than the model and the "
                         "text, or summary.json is another run's\n");
}

Json SummaryCheck::json() const {
  Json out = {{"checkpoint", checkpoint}, {"step", step}, {"same", same()}};
  for (const Figure& f : figures)
    out["figures"].push_back(
        {{"name", f.name}, {"stored", f.stored}, {"anew", f.anew}, {"allowed", f.allowed}});
  out["verdict"] = verdict().json();
  if (!label().empty()) out["label"] = label();
  return out;
}

SummaryCheck check_summary(const std::string& run_directory) {
  require(run_finished(run_directory), "{} is not finished: there is no summary.json",
          run_directory);
  const Json summary = read_summary(run_directory);
  require(summary.contains(kOnPrefixWindows), "{}: summary.json of an earlier version, without {}",
          run_directory, kOnPrefixWindows);
  const LoadedRun run = load_run(run_directory);
  require_comparable(run_directory, run, summary);
  const RunData opened = open_run_data(run_directory, run, false);
  const EvaluationOptions& o = run.options.evaluation;
  const EvaluationSplits splits(opened.data, o.batch_size, run.model->block_size(), o.final_windows,
                                o.final_prefix_only_windows);
  SummaryCheck check;
  check.checkpoint = run.checkpoint;
  check.step = run.step;
  check.known = run.verdict;
  const double bound = rounding_of(*run.model, run.model->block_size()).other_shape,
               largest = largest_loss(*run.model, splits.prefix);
  const auto add = [&](const std::string& name, const Json& stored, double anew, int64_t targets) {
    check.figures.push_back({name, stored, anew, allowed_in_mean(bound, largest, double(targets))});
  };
  const EvaluationResult prefix = evaluate(*run.model, splits.prefix),
                         all = evaluate(*run.model, splits.validation);
  add(kOnPrefixWindows, summary.at(kOnPrefixWindows), prefix.loss, prefix.targets);
  add("val_loss", summary.at("val_loss"), all.loss, all.targets);
  if (auto* augmented = dynamic_cast<AugmentedModel*>(run.model.get())) {
    const AugmentedResult behind =
        evaluate_augmented(*augmented, splits.validation, InsertionRule::of(*augmented));
    add("augmented.val_loss", summary.at("augmented").at("val_loss"), behind.loss,
        behind.predictions);
  }
  return check;
}

bool summary_is_checked(const std::string& run_directory) {
  const std::string file = file_in(run_directory, kSummaryCheckFile);
  if (!std::filesystem::exists(file)) return false;
  return read_stored_json(file).json().value("step", Json()) ==
         read_summary(run_directory).value("steps", Json(-1));
}

Verdict check_summary_in_own_process(const std::string& program, const std::string& run_directory) {
  const Activity activity("computing the final figures anew in a process of their own");
  const std::string out = file_in(run_directory, kSummaryCheckFile);
  std::filesystem::remove(out);
  const std::string failure =
      failure_of_process({program, "check", "summary", run_directory, "--json", out});
  Verdict verdict;
  try {
    verdict = Verdict::from_json(read_stored_json(out).at("verdict").json());
  } catch (const std::exception&) {
    verdict.add_not_probed(fmt::format("{}: it {}", kProbe, failure));
    if (pending_signal() == 0)
      log_warning(
          "{}: the final figures were not computed anew: the process for it {}. To see why: "
          "reverie "
          "check summary {}",
          run_directory, failure, run_directory);
  }
  keep_leak(run_directory, verdict);
  return verdict;
}

}  // namespace reverie
