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
#include "core/forked_copy.h"
#include "core/log.h"
#include "core/signals.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/probes/rounding.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

constexpr const char* kProbe =
    "the final figures against those of a process that never read the text";
constexpr const char* kOnPrefixWindows = "val_loss_on_prefix_only_windows";

// A first forward in a copy of this process that takes longer hangs: a plug-in waits there for a
// thread that only the original has.
constexpr double kSecondsOfForward = 120;

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

// Computes each figure in a copy of this process, which has read no text. What a figure shows a
// model is forgotten with the copy, and cannot help the next figure.
class FreshCopies {
 public:
  FreshCopies(LanguageModel& model, const EvaluationWindows& windows)
      : work_(in_forked_copy(1, kSecondsOfForward, [&] {
                read_once(model, windows);
                return std::vector<double>{0};
              }).has_value()) {}
  bool work() const { return work_; }
  // At most `most` values. Where a copy fails, this process computes them, and throws why.
  std::vector<double> values(size_t most, const ForkedCopy::Compute& compute) {
    if (work_) {
      ForkedCopy copy(most, compute);
      while (!copy.ended_within(0.5)) stop_if_requested();
      if (const auto values = copy.values()) return *values;
      stop_if_requested();  // a copy gets the terminal's signals, too
      work_ = false;
    }
    return compute();
  }

 private:
  // Every way in which figures are computed, on a window or two.
  static void read_once(LanguageModel& model, const EvaluationWindows& windows) {
    const EvaluationMode mode(model);
    const Tensor tokens = windows.batch(0).tokens;
    model.hidden(tokens);
    if (model.carries_memory()) {
      SequenceState state;
      model.hidden(tokens, &state);
      model.hidden(tokens, &state);
    }
    if (auto* augmented = dynamic_cast<AugmentedModel*>(&model))
      evaluate_augmented(*augmented, windows.where([](int64_t i) { return i == 0; }),
                         InsertionRule::of(*augmented));
  }

  bool work_;
};

// The figures of a summary, anew.
class FinalFigures {
 public:
  FinalFigures(LanguageModel& model, const EvaluationSplits& splits, const Json& summary)
      : model_(model),
        splits_(splits),
        summary_(summary),
        bound_(rounding_of(model, model.block_size()).other_shape),
        copies_(model, splits.prefix) {}

  void compute(SummaryCheck& check) {
    teacher_forced();
    if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_)) behind_latents(*augmented);
    if (splits_.texts) across_windows(*splits_.texts);
    check.together = !copies_.work();
    // Last, since this process reads text for it.
    const double largest = largest_loss(model_, splits_.prefix);
    for (Known& k : known_) {
      k.figure.allowed = allowed_in_mean(k.bound, largest, k.targets);
      check.figures.push_back(std::move(k.figure));
    }
  }

 private:
  struct Known {
    SummaryCheck::Figure figure;
    double bound = 0, targets = 0;
  };
  // `windows`: so many in a row, over which rounding adds up.
  void add(const std::string& name, const Json& stored, double anew, double targets,
           int64_t windows = 1) {
    known_.push_back({{name, stored, anew, 0}, double(windows) * bound_, targets});
  }
  static std::vector<double> values_of(const EvaluationResult& e) {
    return {e.loss, double(e.targets)};
  }

  void teacher_forced() {
    const auto add_loss = [&](const char* name, const EvaluationWindows& windows) {
      const auto found = copies_.values(2, [&] { return values_of(evaluate(model_, windows)); });
      add(name, summary_.at(name), found.at(0), found.at(1));
    };
    add_loss(kOnPrefixWindows, splits_.prefix);
    const size_t entries = splits_.entries.size();
    const auto found = copies_.values(2 + 2 * entries, [&] {
      const ValidationLosses losses = evaluate_validation(model_, splits_);
      std::vector<double> values = values_of(losses.all);
      for (const EntryLoss& e : losses.entries)
        for (const double value : values_of(e.result)) values.push_back(value);
      return values;
    });
    add("val_loss", summary_.at("val_loss"), found.at(0), found.at(1));
    const Json stored = summary_.value("val_loss_by_entry", Json::array());
    for (size_t i = 0; i < std::min(entries, stored.size()); ++i)
      if (const std::string& name = splits_.entries[i].name; stored[i].at("entry") == name)
        add("val_loss_by_entry." + name, stored[i].at("loss"), found.at(2 + 2 * i),
            found.at(3 + 2 * i));
    add_loss("train_loss", splits_.train);
  }

  void behind_latents(AugmentedModel& model) {
    const Json& stored = summary_.at("augmented");
    const InsertionRule rule = InsertionRule::of(model);
    const auto loss_on = [&](const EvaluationWindows& windows) {
      return copies_.values(3, [&] {
        const AugmentedResult r = evaluate_augmented(model, windows, rule);
        return std::vector<double>{r.loss, r.base_loss, double(r.predictions)};
      });
    };
    const auto add_stored = [&](const std::string& key, double anew, double targets) {
      if (stored.contains(key)) add("augmented." + key, stored.at(key), anew, targets);
    };
    const auto val = loss_on(splits_.validation), train = loss_on(splits_.train);
    add_stored("val_loss", val.at(0), val.at(2));
    add_stored("base_loss_on_same_predictions", val.at(1), val.at(2));
    add_stored("train_loss", train.at(0), train.at(2));
  }

  void across_windows(const ConsecutiveWindows& texts) {
    // Absent where no window holds a target.
    if (!summary_.contains("val_loss_carried")) return;
    const auto carried = copies_.values(2, [&] {
      const CarriedLosses read = read_carried(model_, texts, {});
      return std::vector<double>{read.loss, double(read.predictions)};
    });
    const auto reset = copies_.values(2, [&] { return values_of(evaluate_reset(model_, texts)); });
    add("val_loss_carried", summary_.at("val_loss_carried"), carried.at(0), carried.at(1),
        texts.windows_in(0));
    add("val_loss_on_carried_windows", summary_.at("val_loss_on_carried_windows"), reset.at(0),
        reset.at(1));
  }

  LanguageModel& model_;
  const EvaluationSplits& splits_;
  const Json& summary_;
  double bound_;
  FreshCopies copies_;
  std::vector<Known> known_;
};

void require_comparable(const std::string& given, const std::string& directory,
                        const LoadedRun& run, const Json& summary) {
  if (run.options.tensor_device().kind != DeviceKind::cpu)
    throw UserError(fmt::format(
        "{} was trained on {}: its figures are computed anew on the CPU, which rounds otherwise",
        directory, run.options.device));
  const int64_t steps = summary.at("steps");
  if (steps == run.step) return;
  if (given == directory)
    throw UserError(fmt::format(
        "{}: summary.json is of step {}, the newest checkpoint of step {}; wanted one of the same "
        "step",
        directory, steps, run.step));
  throw UserError(
      fmt::format("{} is the checkpoint of step {}, summary.json holds the figures of step {}: "
                  "there are none to compare. Wanted `reverie check summary {}`; the losses of "
                  "this checkpoint: `reverie eval {}`",
                  given, run.step, steps, directory, given));
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
  if (together)
    verdict.add_not_probed(
        fmt::format("{}, each in a copy of its own: a copy of the process failed", kProbe));
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

SummaryCheck check_summary(const std::string& given) {
  const auto named = find_run(given);
  const std::string run_directory = named ? named->directory : given;
  require(run_finished(run_directory), "{} is not finished: there is no summary.json",
          run_directory);
  const Json summary = read_summary(run_directory);
  require(summary.contains(kOnPrefixWindows), "{}: summary.json of an earlier version, without {}",
          run_directory, kOnPrefixWindows);
  const LoadedRun run = load_run(given);
  require_comparable(given, run_directory, run, summary);
  const RunData opened = open_run_data(run_directory, run, false);
  const EvaluationOptions& o = run.options.evaluation;
  EvaluationSplits splits(opened.data, o.batch_size, run.model->block_size(), o.final_windows,
                          o.final_prefix_only_windows);
  splits.texts = carried_texts(opened.data, *run.model, o.batch_size, o.final_windows);
  SummaryCheck check;
  check.checkpoint = run.checkpoint;
  check.step = run.step;
  check.known = run.verdict;
  FinalFigures(*run.model, splits, summary).compute(check);
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
          "`reverie check summary {}`",
          run_directory, failure, run_directory);
  }
  keep_leak(run_directory, verdict);
  return verdict;
}

}  // namespace reverie
