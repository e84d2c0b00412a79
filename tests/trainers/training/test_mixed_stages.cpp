// Runs on examples whose stages are mixed: resumed, in parts, and against runs without the mixing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/signals.h"
#include "datasets/dataset.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

class MixedStagesRun : public ::testing::Test {
 protected:
  ExperimentOptions experiment(double mixed, const std::string& patch = "{}") const {
    Config c = Config::parse(
        R"({"seed": 7, "precision": "f64",
      "data": {"problems": {"type": "arithmetic", "operation": "plus", "digits": 2, "second_digits": 1, "train": 60, "held_out": 8},
               "examples": {"stage": 1}, "tokenizer": "word"},
      "model": {"type": "gpt2", "block_size": 40, "n_layer": 1, "n_head": 2, "n_embd": 16},
      "train": {"steps": 6, "batch_size": 4}, "optimizer": {"warmup_steps": 2, "learning_rate": 0.01},
      "evaluation": {"interval": 0, "windows": 4, "prefix_only_windows": 1, "final_windows": 4, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 2, "keep": 0}})",
        "test");
    c.set("data.examples.mixed_stages", mixed);
    c.set("data.prepared_directory", directory_ / ("tokens" + std::to_string(mixed)));
    c.merge(Config::parse(patch, "patch"));
    return read_experiment(c, ".");
  }
  NamedTensors trained(const ExperimentOptions& options, const char* name, int64_t stop = 0) const {
    RunControl control;
    control.run_directory = directory_ / name;
    if (stop > 0) {
      control.stop_after = stop;
      EXPECT_EQ(MonitoredTrainer(options, control).run(), RunEnd::stopped);
      control.stop_after = RunControl().stop_after;
      control.resume = true;
    }
    EXPECT_EQ(MonitoredTrainer(options, control).run(), RunEnd::finished);
    return read_checkpoint(latest_checkpoint(directory_ / name).value()).model;
  }
  static double difference(const NamedTensors& a, const NamedTensors& b) {
    double largest = 0;
    EXPECT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      const auto x = a[i].second.to_vector(), y = b[i].second.to_vector();
      for (size_t j = 0; j < x.size(); ++j) largest = std::max(largest, std::abs(x[j] - y[j]));
    }
    return largest;
  }
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(MixedStagesRun, StoppedAndResumedOrInMicroBatchesIsTheSame) {
  const ExperimentOptions mixed = experiment(0.5);
  const NamedTensors whole = trained(mixed, "whole"), resumed = trained(mixed, "resumed", 3);
  for (size_t i = 0; i < whole.size(); ++i)
    EXPECT_TRUE(bit_identical(whole[i].second, resumed[i].second)) << whole[i].first;
  EXPECT_EQ(read_summary(directory_ / "whole").at("val_loss"),
            read_summary(directory_ / "resumed").at("val_loss"));
  const NamedTensors parts =
      trained(experiment(0.5, R"({"train": {"micro_batches": 2}})"), "parts");
  EXPECT_LT(difference(whole, parts), 1e-9);
  // Another seed, or none of it, gives another training.
  EXPECT_GT(difference(whole, trained(experiment(0), "without")), 1e-4);
  EXPECT_GT(difference(whole, trained(experiment(0.5, R"({"seed": 8})"), "other")), 1e-4);
}

}  // namespace
}  // namespace reverie
