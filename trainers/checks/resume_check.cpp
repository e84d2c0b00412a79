#include "trainers/checks/resume_check.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/monitoring/run_callbacks.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

// Kills its own process, without a chance to tidy up, some steps after the checkpoint it is to be
// resumed from.
struct KillCallback final : Callback {
  explicit KillCallback(int64_t step) : at(step) {}
  void on_step(const RunView&, const StepInfo& s) override {
    if (s.step == at) kill(getpid(), SIGKILL);
  }
  int64_t at;
};

// In a process of its own, which must really die. (The caller must not have started OpenMP threads:
// they do not survive a fork.)
int train_in_child(const ExperimentOptions& options, const std::string& directory, bool resume,
                   int64_t kill_at) {
  const pid_t child = fork();
  if (child < 0) throw MachineError("cannot start a child process");
  if (child == 0) {
    int status = 0;
    try {
      KillCallback killer(kill_at);
      RunControl control;
      control.run_directory = directory;
      control.resume = resume;
      if (kill_at > 0) control.callbacks.push_back(&killer);
      const StandardCallbacks callbacks({.progress = false});
      Trainer(options, callbacks.added_to(control)).run();
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}\n", e.what());
      status = 1;
    }
    std::fflush(nullptr);
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

void compare(const NamedTensors& a, const NamedTensors& b, const char* what,
             std::vector<std::string>& differences) {
  if (a.size() != b.size()) {
    differences.push_back(fmt::format("{}: {} tensors against {}", what, a.size(), b.size()));
    return;
  }
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].first != b[i].first || !bit_identical(a[i].second, b[i].second))
      differences.push_back(fmt::format("{}: {} differs", what, a[i].first));
}

}  // namespace

ResumeCheck check_resume(const ExperimentOptions& given, int64_t steps, int64_t killed_at,
                         const std::string& directory) {
  require(0 < killed_at && killed_at < steps,
          "check resume: wanted 0 < --kill-at < --steps, got {} and {}", killed_at, steps);
  namespace fs = std::filesystem;
  ExperimentOptions options = given;
  options.train.steps = steps;
  options.checkpoint.interval = killed_at;
  options.checkpoint.keep = 0;
  ResumeCheck result{steps, killed_at, {}};
  const std::string whole = directory + "/whole", parts = directory + "/killed_and_resumed";
  fs::remove_all(whole);
  fs::remove_all(parts);
  require(train_in_child(options, whole, false, 0) == 0,
          "check resume: the uninterrupted run failed; its message is above");
  const int killed = train_in_child(options, parts, false, std::min(killed_at + 1, steps));
  require(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL,
          "check resume: the run to be killed ended by itself (status {})", killed);
  require(train_in_child(options, parts, true, 0) == 0,
          "check resume: the resumed run failed; its message is above");

  const CheckpointContents a = read_latest_checkpoint(whole).value().contents,
                           b = read_latest_checkpoint(parts).value().contents;
  compare(a.model, b.model, "weights", result.differences);
  compare(a.optimizer, b.optimizer, "optimizer", result.differences);
  compare(a.memory, b.memory, "carried memory", result.differences);
  for (const auto& key :
       {"step", "tokens", "batch", "random_seed", "random_offset", "memory_counters"})
    if (a.state.at(key) != b.state.at(key))
      result.differences.push_back(fmt::format("state: {} is {} against {}", key,
                                               json_text(a.state.at(key)),
                                               json_text(b.state.at(key))));
  const auto x = read_metrics(whole), y = read_metrics(parts);
  auto losses = [](const std::vector<Json>& events) {
    Json list = Json::array();
    for (const Json& e : events)
      for (const auto& key :
           {"loss", "gradient_norm", "train_loss", "val_loss", "val_loss_prefix_only", "text"})
        if (e.contains(key)) list.push_back({e.at("step"), key, e.at(key)});
    return list;
  };
  if (losses(x) != losses(y))
    result.differences.push_back("metrics.jsonl: losses, gradient norms or samples differ");
  return result;
}

}  // namespace reverie
