// The training loop: gates, splits of a batch, carried memory, refusals, what a run directory
// holds.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "autograd/variable.h"
#include "core/error.h"
#include "core/files.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::message_of;

using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  // A tiny experiment; `patch` is merged into it.
  ExperimentOptions experiment(const std::string& patch = "{}") {
    Config c = Config::parse(
        R"({"seed": 7, "model": {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16},
      "train": {"steps": 6, "batch_size": 8}, "optimizer": {"warmup_steps": 2, "learning_rate": 0.01},
      "evaluation": {"interval": 3, "windows": 8, "prefix_only_windows": 2, "final_windows": 8, "final_prefix_only_windows": 4},
      "sample": {"interval": 0, "tokens": 5}, "checkpoint": {"interval": 2, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    const bool documents = patch.find("document_separator") != patch.npos;
    c.set("data.prepared_directory=" + (directory_ / (documents ? "documents" : "tokens")));
    c.merge(Config::parse(patch, "patch"));
    return read_experiment(c, ".");
  }
  RunControl control(const std::string& name, bool resume = false) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    return c;
  }
  NamedTensors weights(const std::string& name) {
    return read_checkpoint(latest_checkpoint(directory_ / name).value()).model;
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;  // forgets the signals that other tests of this process sent
};

TEST_F(TrainerTest, RunDirectoryHoldsWhatTheContractSays) {
  const std::string run = directory_ / "run";
  EXPECT_EQ(MonitoredTrainer(experiment(), control("run")).run(), RunEnd::finished);
  for (const char* file :
       {"config.resolved.json", "metrics.jsonl", "summary.json", "dataset.json",
        "reverie_tokenizer.json", "checkpoints/step_00000006/model.safetensors",
        "checkpoints/step_00000006/optimizer.safetensors", "checkpoints/step_00000006/state.json",
        "checkpoints/step_00000006/COMPLETE"})
    EXPECT_TRUE(std::filesystem::exists(run + "/" + file)) << file;
  const Json s = read_summary(run);
  for (const char* key :
       {"train_loss", "val_loss", "val_loss_prefix_only", "causal", "max_future_logit_change",
        "parameters", "tokens", "seconds", "tokens_per_second", "commit"})
    EXPECT_TRUE(s.contains(key)) << key;
  EXPECT_TRUE(s.at("causal"));
  EXPECT_FALSE(s.contains("label"));
  EXPECT_EQ(s.at("tokens"), 6 * 8 * 16);
  EXPECT_NEAR(s.at("val_loss_prefix_only"), s.at("val_loss_on_prefix_only_windows").get<double>(),
              1e-5);
  int64_t train = 0, eval = 0;
  for (const Json& e : read_metrics(run))
    (e.at("event") == "train"  ? train
     : e.at("event") == "eval" ? eval
                               : train) += e.at("event") != "sample";
  EXPECT_EQ(train, 6);
  EXPECT_EQ(eval, 2);
}

TEST_F(TrainerTest, LossFallsOnLearnableText) {
  const double before = std::log(30.0);
  MonitoredTrainer(experiment(R"({"train": {"steps": 60}})"), control("run")).run();
  EXPECT_LT(read_summary(directory_ / "run").at("val_loss").get<double>(), 0.8 * before);
}

TEST_F(TrainerTest, AnySplitOfABatchGivesTheSameTraining) {
  // Dropout, too: every sequence draws what it would draw in the whole batch.
  const std::string f64 = R"("precision": "f64", "model": {"dropout": 0.1})";
  const auto split = [&](int parts) {
    return experiment(fmt::format(
        R"({{{}, "train": {{"exact_sums": "off", "micro_batches": {}}}}})", f64, parts));
  };
  MonitoredTrainer(split(1), control("whole")).run();
  for (int parts : {2, 4, 8}) {
    const std::string name = "parts" + std::to_string(parts);
    MonitoredTrainer(split(parts), control(name)).run();
    const auto a = weights("whole"), b = weights(name);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      const auto x = a[i].second.to_vector(), y = b[i].second.to_vector();
      for (size_t j = 0; j < x.size(); ++j)
        ASSERT_NEAR(x[j], y[j], 1e-9) << a[i].first << " in " << parts << " parts";
    }
  }
  // The comparison can fail: another seed gives other weights.
  MonitoredTrainer(experiment("{" + f64 + R"(, "seed": 8})"), control("other")).run();
  EXPECT_FALSE(bit_identical(weights("whole")[0].second, weights("other")[0].second));
}

TEST_F(TrainerTest, ProductsInBf16StayBesideF32AndResumeBitIdentically) {
  const auto losses = [&](const std::string& run) {
    std::vector<double> list;
    for (const Json& e : read_metrics(directory_ / run))
      if (e.at("event") == "train") list.push_back(e.at("loss"));
    return list;
  };
  const auto patch = [](const char* precision) {
    return fmt::format(R"({{"precision": "{}", "train": {{"steps": 60}}}})", precision);
  };
  MonitoredTrainer(experiment(patch("f32")), control("f32")).run();
  const ExperimentOptions low = experiment(patch("bf16"));
  MonitoredTrainer(low, control("bf16")).run();
  const auto a = losses("f32"), b = losses("bf16");
  ASSERT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  EXPECT_LT(worst, 0.03);  // nats, of losses that fall from 3.4
  EXPECT_GT(worst, 1e-6) << "nothing was rounded";
  RunControl first = control("parts");
  first.stop_after = 25;
  EXPECT_EQ(MonitoredTrainer(low, first).run(), RunEnd::stopped);
  EXPECT_EQ(MonitoredTrainer(low, control("parts", true)).run(), RunEnd::finished);
  const auto whole = weights("bf16"), parts = weights("parts");
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].second.dtype(), DType::f32);
    EXPECT_TRUE(bit_identical(whole[i].second, parts[i].second)) << whole[i].first;
  }
}

TEST_F(TrainerTest, StoppedAndResumedIsBitIdentical) {
  for (
      const char* memory :
      {"null",
       R"({"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true})"}) {
    std::filesystem::remove_all(directory_ / "whole");
    std::filesystem::remove_all(directory_ / "parts");
    const std::string patch =
        fmt::format(R"({{"model": {{"dropout": 0.1, "memory": {}}}}})", memory);
    const ExperimentOptions e = experiment(patch);
    MonitoredTrainer(e, control("whole")).run();
    RunControl first = control("parts");
    first.stop_after = 3;
    EXPECT_EQ(MonitoredTrainer(e, first).run(), RunEnd::stopped);
    EXPECT_FALSE(run_finished(directory_ / "parts"));
    EXPECT_EQ(MonitoredTrainer(e, control("parts", true)).run(), RunEnd::finished);
    const auto a = weights("whole"), b = weights("parts");
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(bit_identical(a[i].second, b[i].second))
          << a[i].first << " with memory " << memory;
    EXPECT_EQ(read_summary(directory_ / "whole").at("val_loss"),
              read_summary(directory_ / "parts").at("val_loss"));
  }
}

// Every line a document of three windows.
const char* kCarriedDocuments =
    R"({"data": {"document_separator": "\n", "document_token": "\n"},
        "model": {"dropout": 0.1, "memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4,
                  "num_slots": 2, "chunk_length": 4, "carry_state": true}}})";

TEST_F(TrainerTest, StoppedInsideADocumentAndResumedIsBitIdentical) {
  const ExperimentOptions e = experiment(kCarriedDocuments);
  MonitoredTrainer(e, control("whole")).run();
  for (const int64_t stop : {1, 2, 3, 4}) {
    const std::string name = "parts" + std::to_string(stop);
    RunControl first = control(name);
    first.stop_after = stop;
    EXPECT_EQ(MonitoredTrainer(e, first).run(), RunEnd::stopped);
    EXPECT_EQ(MonitoredTrainer(e, control(name, true)).run(), RunEnd::finished);
    const auto a = weights("whole"), b = weights(name);
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(bit_identical(a[i].second, b[i].second)) << a[i].first << " stopped at " << stop;
    EXPECT_EQ(read_summary(directory_ / "whole").at("val_loss_carried"),
              read_summary(directory_ / name).at("val_loss_carried"));
  }
}

// Earlier versions carried memory from one document into the next.
TEST_F(TrainerTest, ACheckpointThatCarriedOverDocumentsResumesWithACleanMemory) {
  const ExperimentOptions e = experiment(kCarriedDocuments);
  RunControl first = control("run");
  first.stop_after = 2;
  MonitoredTrainer(e, first).run();
  CheckpointContents c = read_latest_checkpoint(directory_ / "run").value().contents;
  EXPECT_TRUE(c.state.at("documents_begin_clean"));
  EXPECT_FALSE(c.memory.empty());
  c.state.erase("documents_begin_clean");
  write_checkpoint(directory_ / "run", 2, c, 0);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(MonitoredTrainer(e, control("run", true)).run(), RunEnd::finished);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("from one document into the next"));
  EXPECT_TRUE(read_latest_checkpoint(directory_ / "run")
                  .value()
                  .contents.state.at("documents_begin_clean"));
}

TEST_F(TrainerTest, LossesWithMemoryCarriedStandBesideTheOthers) {
  MonitoredTrainer(experiment(kCarriedDocuments), control("carried")).run();
  MonitoredTrainer(experiment(), control("none")).run();
  const Json s = read_summary(directory_ / "carried"), none = read_summary(directory_ / "none");
  EXPECT_NE(s.at("val_loss_carried"), s.at("val_loss_on_carried_windows"));
  const Json& carried = s.at("carried");
  EXPECT_EQ(carried.at("of"), "documents");
  EXPECT_GT(carried.at("texts").get<int64_t>(), 1);
  EXPECT_EQ(carried.at("by_position").size(), 16u);
  EXPECT_LE(carried.at("change_when_reset").at("low"), carried.at("change_when_reset").at("high"));
  EXPECT_EQ(carried.at("loss"), s.at("val_loss_carried"));
  for (const char* key : {"val_loss_carried", "val_loss_on_carried_windows", "carried"})
    EXPECT_FALSE(none.contains(key)) << key;
  for (const auto& [run, has] : {std::pair("carried", true), {"none", false}})
    for (const Json& e : read_metrics(directory_ / run))
      if (e.at("event") == "eval") {
        EXPECT_EQ(e.contains("val_loss_carried"), has) << e.dump();
      }
  // The forwards with memory carried are audited, and asked before the first step.
  const std::string probed = s.at("verdict").dump();
  EXPECT_THAT(probed, ::testing::HasSubstr("memory carried, against a copy that read one alone"));
  EXPECT_TRUE(s.at("causal")) << probed;
}

// Earlier versions kept memory among the optimizer's tensors, split as the batch was.
TEST_F(TrainerTest, CheckpointsOfTheEarlierLayoutResume) {
  const ExperimentOptions e = experiment(
      R"({"model": {"memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2,
                               "chunk_length": 4, "carry_state": true}}})");
  MonitoredTrainer(e, control("whole")).run();
  RunControl first = control("parts");
  first.stop_after = 3;
  EXPECT_EQ(MonitoredTrainer(e, first).run(), RunEnd::stopped);
  CheckpointContents c = read_latest_checkpoint(directory_ / "parts").value().contents;
  ASSERT_FALSE(c.memory.empty());
  for (const auto& [name, tensor] : c.memory) {
    ASSERT_EQ(tensor.size(0), 8) << name;
    c.optimizer.emplace_back("memory.0." + name, tensor.slice(0, 0, 5).clone());
    c.optimizer.emplace_back("memory.1." + name, tensor.slice(0, 5, 8).clone());
  }
  c.memory.clear();
  write_checkpoint(directory_ / "parts", 3, c, 0);
  EXPECT_EQ(MonitoredTrainer(e, control("parts", true)).run(), RunEnd::finished);
  const CheckpointContents a = read_latest_checkpoint(directory_ / "whole").value().contents,
                           b = read_latest_checkpoint(directory_ / "parts").value().contents;
  for (const auto& [of_a, of_b] : {std::pair(&a.model, &b.model), {&a.memory, &b.memory}}) {
    ASSERT_EQ(of_a->size(), of_b->size());
    for (size_t i = 0; i < of_a->size(); ++i)
      EXPECT_TRUE(bit_identical((*of_a)[i].second, (*of_b)[i].second)) << (*of_a)[i].first;
  }
}

TEST_F(TrainerTest, LeakingModelNeedsPermissionAndCarriesTheLabel) {
  const std::string leaky =
      R"("model": {"memory": {"type": "imm", "mode": "as_published", "low_rank_dim": 4}})";
  const std::string refusal = message_of<ConfigError>(
      [&] { MonitoredTrainer(experiment("{" + leaky + "}"), control("leaky")); });
  EXPECT_NE(refusal.find("allow_future_leak"), std::string::npos) << refusal;
  EXPECT_FALSE(std::filesystem::exists(directory_ / "leaky"));
  MonitoredTrainer(experiment("{" + leaky + R"(, "allow_future_leak": true})"), control("leaky"))
      .run();
  const Json s = read_summary(directory_ / "leaky");
  EXPECT_EQ(s.at("label"), "LEAKS");
  EXPECT_FALSE(s.at("causal"));
  EXPECT_GT(s.at("max_future_logit_change").get<double>(), 0);
  for (const Json& e : read_metrics(directory_ / "leaky")) EXPECT_EQ(e.at("label"), "LEAKS");
  const auto checkpoint = latest_checkpoint(directory_ / "leaky").value();
  EXPECT_EQ(read_checkpoint(checkpoint).state.at("label"), "LEAKS");
  EXPECT_EQ(read_safetensors(checkpoint + "/model.safetensors").metadata.at("label"), "LEAKS");
  EXPECT_TRUE(load_run(directory_ / "leaky").leaks);
}

TEST_F(TrainerTest, AnotherConfigInTheSameDirectoryIsRefusedWithTheDifference) {
  RunControl first = control("run");
  first.stop_after = 2;
  MonitoredTrainer(experiment(), first).run();
  const std::string changed = message_of<ConfigError>([&] {
    MonitoredTrainer(experiment(R"({"optimizer": {"learning_rate": 0.02}})"), control("run", true));
  });
  EXPECT_NE(changed.find("learning_rate"), std::string::npos) << changed;
  EXPECT_NE(changed.find("0.02"), std::string::npos) << changed;
  const std::string again =
      message_of<ConfigError>([&] { MonitoredTrainer(experiment(), control("run")); });
  EXPECT_NE(again.find("--resume"), std::string::npos) << again;
}

// Two processes that go on with one run would write its checkpoints in turn, in silence.
TEST_F(TrainerTest, ARunThatIsInUseIsRefusedUntilItEnds) {
  RunControl first = control("run");
  first.stop_after = 2;
  MonitoredTrainer running(experiment(), first);
  const std::string refused =
      message_of<UserError>([&] { MonitoredTrainer(experiment(), control("run", true)); });
  EXPECT_THAT(refused, ::testing::AllOf(::testing::HasSubstr("in use by process"),
                                        ::testing::HasSubstr("--run-dir")));
  EXPECT_EQ(running.run(), RunEnd::stopped);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/run.lock"));
  EXPECT_EQ(MonitoredTrainer(experiment(), control("run", true)).run(), RunEnd::finished);
}

TEST_F(TrainerTest, ResumingOnOtherTokensIsRefused) {
  RunControl first = control("run");
  first.stop_after = 2;
  MonitoredTrainer(experiment(), first).run();
  std::ofstream(directory_ / "text.txt", std::ios::app) << "one more line\n";
  std::filesystem::remove_all(directory_ / "tokens");
  const std::string refusal =
      message_of<ConfigError>([&] { MonitoredTrainer(experiment(), control("run", true)); });
  EXPECT_NE(refusal.find("other tokens"), std::string::npos) << refusal;
}

TEST_F(TrainerTest, AllCheckpointsDamagedIsAnErrorNotAFreshStart) {
  RunControl first = control("run");
  first.stop_after = 2;
  MonitoredTrainer(experiment(), first).run();
  std::filesystem::resize_file(latest_checkpoint(directory_ / "run").value() + "/model.safetensors",
                               100);
  EXPECT_THROW(MonitoredTrainer(experiment(), control("run", true)), DataError);
}

// Plants a value that is not finite into a weight after `at` steps, as data or an overflow would.
struct PoisonCallback final : Callback {
  explicit PoisonCallback(int64_t step) : at(step) {}
  void on_step(const RunView& t, const StepInfo& s) override {
    if (s.step != at) return;
    Tensor weight = t.model().parameters()[0].second.tensor();
    weight.fill(std::nan(""));
  }
  int64_t at;
};

TEST_F(TrainerTest, NonFiniteLossStopsAndNamesTheLastGoodCheckpoint) {
  PoisonCallback poison(3);
  RunControl c = control("run");
  c.callbacks.push_back(&poison);
  const std::string message = message_of<DivergedError>(
      [&] { MonitoredTrainer(experiment(R"({"evaluation": {"interval": 0}})"), c).run(); });
  EXPECT_NE(message.find("step 4: loss"), std::string::npos) << message;
  EXPECT_NE(message.find("step_00000002"), std::string::npos) << message;
}

TEST_F(TrainerTest, WeightsThatAreNotFiniteAreNeverSaved) {
  PoisonCallback poison(4);  // just before the checkpoint of step 4
  RunControl c = control("run");
  c.callbacks.push_back(&poison);
  const std::string message = message_of<DivergedError>(
      [&] { MonitoredTrainer(experiment(R"({"evaluation": {"interval": 0}})"), c).run(); });
  EXPECT_NE(message.find("weights"), std::string::npos) << message;
  EXPECT_NE(message.find("step_00000002"), std::string::npos) << message;
  EXPECT_TRUE(latest_checkpoint(directory_ / "run").value().ends_with("step_00000002"));
}

TEST_F(TrainerTest, VocabularyAndBlockSizeMustFitTheData) {
  const std::string small = message_of<UserError>(
      [&] { MonitoredTrainer(experiment(R"({"model": {"vocab_size": 5}})"), control("a")); });
  EXPECT_NE(small.find("5"), std::string::npos) << small;
  const std::string large = message_of<UserError>(
      [&] { MonitoredTrainer(experiment(R"({"model": {"block_size": 100000}})"), control("b")); });
  EXPECT_NE(large.find("100000"), std::string::npos) << large;
}

}  // namespace
}  // namespace reverie
