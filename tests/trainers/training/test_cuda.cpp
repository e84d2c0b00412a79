// "device": "cuda" trains as "cpu" does: the same data, the same dropout, the same arithmetic but
// for the order of sums.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/cuda.h"
#include "core/error.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_directory.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

class CudaTraining : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 100; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& patch) {
    Config c = Config::parse(
        R"({"seed": 7, "train": {"steps": 3, "batch_size": 4, "micro_batches": 2},
      "optimizer": {"warmup_steps": 1, "learning_rate": 0.01},
      "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 2}, "checkpoint": {"interval": 0, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.merge(Config::parse(patch, "patch"));
    return read_experiment(c, ".");
  }
  struct Outcome {
    std::vector<double> losses;
    NamedTensors weights;
  };
  Outcome train(const std::string& device, const std::string& precision) {
    ExperimentOptions o = experiment(GetParam());
    o.device = device;
    o.precision = precision;
    RunControl control;
    control.run_directory = directory_ / (device + precision);
    MonitoredTrainer trainer(o, control);
    EXPECT_EQ(trainer.run(), RunEnd::finished);
    const Json summary = read_summary(control.run_directory);
    return {{summary.at("train_loss"), summary.at("val_loss"), summary.at("val_loss_prefix_only")},
            read_checkpoint(latest_checkpoint(control.run_directory).value()).model};
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_P(CudaTraining, EqualsTheCpu) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  for (const auto& [precision, of_loss, of_weight] :
       {std::tuple{"f64", 1e-10, 1e-8}, std::tuple{"f32", 2e-5, 2e-3}}) {
    const Outcome cpu = train("cpu", precision), cuda = train("cuda", precision);
    for (size_t i = 0; i < cpu.losses.size(); ++i)
      EXPECT_NEAR(cpu.losses[i], cuda.losses[i], of_loss) << precision;
    ASSERT_EQ(cpu.weights.size(), cuda.weights.size());
    for (size_t i = 0; i < cpu.weights.size(); ++i) {
      const std::vector<double> a = cpu.weights[i].second.to_vector(),
                                b = cuda.weights[i].second.to_vector();
      ASSERT_EQ(a.size(), b.size());
      double largest = 0;
      for (size_t k = 0; k < a.size(); ++k) largest = std::max(largest, std::abs(a[k] - b[k]));
      // A step of Adam divides by the gradient's own size, small ones' rounding errors too.
      EXPECT_LT(largest, of_weight) << precision << " " << cpu.weights[i].first;
    }
  }
}

constexpr const char* kNames[] = {"gpt2", "llama", "imm"};
INSTANTIATE_TEST_SUITE_P(
    Models, CudaTraining,
    ::testing::Values(
        R"({"model": {"type": "gpt2", "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 16,
                      "dropout": 0.1}})",
        R"({"model": {"type": "llama", "block_size": 12, "n_layer": 1, "n_head": 2, "n_kv_head": 1,
                      "n_embd": 16}})",
        R"({"model": {"type": "gpt2", "block_size": 12, "n_layer": 1, "n_head": 2, "n_embd": 16,
                      "memory": {"type": "imm", "mode": "causal_mean", "low_rank_dim": 8,
                                 "num_slots": "auto"}}})"),
    [](const auto& info) { return kNames[info.index]; });

TEST(CudaConfig, IsRefusedWhereThereIsNone) {
  if (cuda::status().usable) GTEST_SKIP() << "device cuda is usable here";
  const Config c = Config::parse(R"({"device": "cuda", "model": {"type": "gpt2"}})", "test");
  EXPECT_THAT(message_of<ConfigError>([&] { read_experiment(c, "."); }),
              AllOf(HasSubstr("$.device is cuda:"), HasSubstr("use cpu")));
}

}  // namespace
}  // namespace reverie
