// What `reverie plan` foretells, beside what training then takes.

#include "trainers/training/plan.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/cuda.h"
#include "core/signals.h"
#include "core/storage.h"
#include "support/temporary_directory.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

// The most bytes of tensors in use during the steps of a run, evaluations and samples left out.
class PeakOfSteps final : public Callback {
 public:
  explicit PeakOfSteps(Device device) : memory_(allocator(device)) {}
  void on_start(const RunView&, int64_t) override { memory_.reset_peak(); }
  void on_step(const RunView&, const StepInfo&) override { peak = memory_.stats().peak; }
  size_t peak = 0;

 private:
  Allocator& memory_;
};

class PlannedMemory : public ::testing::TestWithParam<std::string> {
 protected:
  PlannedMemory() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 200; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& device) {
    Config c = Config::parse(
        R"({"train": {"steps": 2, "batch_size": 8, "micro_batches": 2},
      "evaluation": {"interval": 0, "windows": 1, "prefix_only_windows": 1, "final_windows": 1, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 0, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.merge(Config::parse(GetParam(), "patch"));
    ExperimentOptions o = read_experiment(c, ".");
    o.device = device;
    return o;
  }
  // Planned over measured.
  void expect_foretold(const std::string& device, double tolerance) {
    const ExperimentOptions o = experiment(device);
    const Plan plan = plan_run(o);
    EXPECT_DOUBLE_EQ(plan.kept_bytes + plan.activation_bytes, plan.peak_bytes);
    // Weights, gradients and two moments, each padded a little.
    EXPECT_NEAR(plan.kept_bytes / (4 * plan.weight_bytes), 1, 0.1);
    Allocator& memory = allocator(o.tensor_device());
    const size_t before = memory.stats().in_use;
    PeakOfSteps peak(o.tensor_device());
    RunControl control;
    control.run_directory = directory_ / device;
    control.callbacks = {&peak};
    MonitoredTrainer trainer(o, control);
    ASSERT_EQ(trainer.run(), RunEnd::finished);
    ASSERT_GT(peak.peak, before);
    EXPECT_NEAR(plan.peak_bytes / double(peak.peak - before), 1, tolerance)
        << plan.peak_bytes << " bytes planned, " << peak.peak - before << " taken";
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_P(PlannedMemory, IsWhatTrainingTakesOnTheCpu) {
  expect_foretold("cpu", 0.05);
}

TEST_P(PlannedMemory, IsWhatTrainingTakesOnTheDevice) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  expect_foretold("cuda", 0.1);
}

constexpr const char* kNames[] = {"gpt2", "gpt2_bf16", "llama_rematerialized"};
INSTANTIATE_TEST_SUITE_P(
    Models, PlannedMemory,
    ::testing::Values(
        R"({"model": {"type": "gpt2", "block_size": 32, "n_layer": 3, "n_head": 2, "n_embd": 48, "dropout": 0.1}})",
        R"({"precision": "bf16", "model": {"type": "gpt2", "block_size": 32, "n_layer": 3, "n_head": 2, "n_embd": 48}})",
        R"({"model": {"type": "llama", "block_size": 32, "n_layer": 3, "n_head": 2, "n_kv_head": 1, "n_embd": 48, "rematerialize": true}})"),
    [](const auto& info) { return kNames[info.index]; });

}  // namespace
}  // namespace reverie
