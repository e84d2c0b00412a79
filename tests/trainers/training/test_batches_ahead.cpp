// Batches that are sent to the device ahead of their step: the same rows, and nothing that a
// checkpoint could lose.

#include "trainers/training/batches_ahead.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/cuda.h"
#include "core/signals.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/training/monitored_trainer.h"
#if defined(REVERIE_CUDA_EMULATED)
#include "core/emulated_cuda.h"
#endif

namespace reverie {
namespace {

using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

constexpr Device kCuda{DeviceKind::cuda, 0};

class Ahead : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 100; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& device, const std::string& model) {
    Config c = Config::parse(
        R"({"seed": 7, "train": {"steps": 4, "batch_size": 4, "micro_batches": 2},
      "optimizer": {"warmup_steps": 1, "learning_rate": 0.01},
      "evaluation": {"interval": 2, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 2}, "checkpoint": {"interval": 0, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.set("device=" + device);
    c.merge(Config::parse(model, "model"));
    return read_experiment(c, ".");
  }
  RunControl control(const std::string& name, bool resume = false) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    return c;
  }
  // Everything that goes on: weights, moments, carried memory, and where data and dropout stand.
  CheckpointContents last_checkpoint(const std::string& name) {
    return read_checkpoint(latest_checkpoint(directory_ / name).value());
  }
  void expect_resumes_at_each_step(const std::string& device, const std::string& model) {
    const ExperimentOptions e = experiment(device, model);
    EXPECT_EQ(MonitoredTrainer(e, control("whole")).run(), RunEnd::finished);
    const CheckpointContents whole = last_checkpoint("whole");
    // Stopped after each of its steps, one after another.
    for (int64_t step = 1; step < e.train.steps; ++step) {
      RunControl part = control("parts", step > 1);
      part.stop_after = step;
      EXPECT_EQ(MonitoredTrainer(e, part).run(), RunEnd::stopped);
      EXPECT_EQ(last_checkpoint("parts").state.at("batch"), step);
    }
    EXPECT_EQ(MonitoredTrainer(e, control("parts", true)).run(), RunEnd::finished);
    const CheckpointContents parts = last_checkpoint("parts");
    for (const char* key : {"batch", "random_offset", "memory_counters", "tokens"})
      EXPECT_EQ(whole.state.at(key), parts.state.at(key)) << key;
    expect_same(whole.model, parts.model);
    expect_same(whole.optimizer, parts.optimizer);
  }
  static void expect_same(const NamedTensors& a, const NamedTensors& b) {
    ASSERT_EQ(a.size(), b.size());
    ASSERT_FALSE(a.empty());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].first, b[i].first);
      EXPECT_TRUE(bit_identical(a[i].second, b[i].second)) << a[i].first;
    }
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

constexpr const char* kPlain =
    R"({"model": {"type": "gpt2", "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8, "dropout": 0.1}})";
// Reads in order, so that a batch that is left out or read twice moves all that follow.
constexpr const char* kCarrying =
    R"({"model": {"type": "gpt2", "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8,
        "memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2,
                   "chunk_length": 4, "carry_state": true}}})";

TEST_F(Ahead, StoppedAtEachStepOnTheCpuIsBitIdentical) {
  expect_resumes_at_each_step("cpu", kPlain);
}
TEST_F(Ahead, StoppedAtEachStepOnCudaIsBitIdentical) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  expect_resumes_at_each_step("cuda", kPlain);
}
TEST_F(Ahead, StoppedAtEachStepWithCarriedMemoryOnCudaIsBitIdentical) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  expect_resumes_at_each_step("cuda", kCarrying);
}

TEST_F(Ahead, RowsAreTheSamplersWhateverWasPrepared) {
  const ExperimentOptions e = experiment("cpu", kPlain);
  const Dataset dataset = prepare_and_open(e.data);
  const RandomWindowSampler sampler(dataset.train, 4, 8, 3);
  const Device device = cuda::status().usable ? kCuda : Device{};
  BatchesAhead batches(sampler, device);
  const auto expect_rows = [&](const Batch& b, int64_t index, const BatchPart& part) {
    const Batch wanted = sampler.rows(index, part.first_row, part.rows);
    EXPECT_TRUE(bit_identical(b.tokens, wanted.tokens));
    EXPECT_TRUE(bit_identical(b.targets, wanted.targets));
    EXPECT_TRUE(bit_identical(b.tokens.to(device), wanted.tokens));
    EXPECT_TRUE(bit_identical(b.targets.to(device), wanted.targets));
    EXPECT_EQ(b.target_count, wanted.target_count);
  };
  const BatchPart upper{0, 2}, lower{2, 2}, three{0, 3};
  expect_rows(batches.rows(5, upper), 5, upper);  // nothing was prepared
  batches.prepare(5, lower);
  const Batch kept = batches.rows(5, lower);
  expect_rows(kept, 5, lower);
  // Another one than was prepared: an index, a first row, a number of rows.
  for (const auto& [index, part] :
       {std::pair{int64_t(7), upper}, {int64_t(6), lower}, {int64_t(6), three}}) {
    batches.prepare(6, upper);
    expect_rows(batches.rows(index, part), index, part);
  }
  // Many are prepared while one is kept; larger ones, too.
  for (int64_t i = 10; i < 15; ++i) {
    batches.prepare(i, i % 2 == 0 ? upper : three);
    expect_rows(batches.rows(i, i % 2 == 0 ? upper : three), i, i % 2 == 0 ? upper : three);
  }
  expect_rows(kept, 5, lower);
  EXPECT_EQ(sampler.position(), 0);
}

#if defined(REVERIE_CUDA_EMULATED)
// Tokens and targets of every part but the first, which nobody saw coming.
TEST_F(Ahead, TrainingTakesEveryPartFromWhatWasSent) {
  const int64_t before = cuda::copies_from_staging_buffers();
  MonitoredTrainer(experiment("cuda", kPlain), control("run")).run();
  EXPECT_EQ(cuda::copies_from_staging_buffers() - before, 2 * (4 * 2 - 1));
}
#endif

}  // namespace
}  // namespace reverie
