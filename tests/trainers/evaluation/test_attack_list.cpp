// The attack list: every kind of leak that got through once, and more, each trained by the trainer
// as it trains anything, each with the moment at which it must be found.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/probes/gate_effort.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::Attack;
using ::testing::HasSubstr;
using testing::latent_attacks;
using testing::memory_attacks;
using testing::message_of;
using testing::MonitoredTrainer;

class AttackList : public ::testing::TestWithParam<Attack> {
 protected:
  void SetUp() override {
    testing::reset_attacks();
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& model, bool allowed) {
    Config c = Config::parse(
        R"({"seed": 7, "train": {"steps": 60, "batch_size": 6},
            "optimizer": {"warmup_steps": 2, "learning_rate": 0.01},
            "evaluation": {"interval": 20, "windows": 16, "prefix_only_windows": 4, "batch_size": 16,
                           "final_windows": 16, "final_prefix_only_windows": 4},
            "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 10, "keep": 0}})",
        "test");
    c.merge(Config::parse("{\"model\": " + model + "}", "model"));
    c.merge(Config::parse(GetParam().patch, "patch"));
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    if (allowed) c.set("allow_future_leak=true");
    return read_experiment(c, ".");
  }
  static std::string memory_model() {
    return std::string(R"({"type": "llama", "block_size": 24, "n_layer": 1, "n_head": 2,
        "n_embd": 16, "memory": {"type": "test_attack", "kind": ")") +
           GetParam().kind + "\"}}";
  }
  static std::string latent_model() {
    return std::string(R"({"type": "augmented", "block_size": 24, "groups": 6, "ahead": 4,
        "base": ")" + testing::test_directory() +
                       R"(/golden/pretrained/llama",
        "latents": {"type": "test_latent_attack", "kind": ")") +
           GetParam().kind + "\"}}";
  }
  RunControl control(const std::string& name, bool resume = false) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    return c;
  }
  // Refused before the first step, or found at the evaluation after `at`.
  void expect_caught(const std::string& model, int64_t at) {
    if (at == 0) {
      const std::string refusal = message_of<ConfigError>(
          [&] { MonitoredTrainer(experiment(model, false), control("run")); });
      EXPECT_THAT(refusal, HasSubstr("LEAKS"));
      EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
      std::printf("%-18s %s: before the first step\n", GetParam().kind, GetParam().what);
      return;
    }
    MonitoredTrainer trainer(experiment(model, false), control("run"));
    EXPECT_FALSE(trainer.leaks());
    if (at > GetParam().found_at) {
      EXPECT_THAT(trainer.verdict().line(), HasSubstr("not probed: before the first step"));
    }
    trainer.run();
    ASSERT_TRUE(trainer.leaks());
    EXPECT_EQ(trainer.verdict().first_leak()->step, at) << trainer.verdict().line();
    expect_labelled_everywhere(at);
    std::printf("%-18s %s: at step %d\n", GetParam().kind, GetParam().what, int(at));
  }
  void expect_labelled_everywhere(int64_t at) {
    const std::string run = directory_ / "run";
    const Json s = read_summary(run);
    EXPECT_EQ(s.at("label"), "LEAKS");
    EXPECT_EQ(s.at("causal"), false);
    EXPECT_TRUE(Verdict::of_file(s).leaks());
    for (const Json& e : read_metrics(run))
      EXPECT_EQ(e.at("label"), e.at("step").get<int64_t>() < at
                                   ? fmt::format("LEAKS (unknown before step {})", at)
                                   : "LEAKS")
          << e.dump();
    const LoadedRun loaded = load_run(run);
    EXPECT_TRUE(loaded.leaks);
    EXPECT_EQ(loaded.verdict.first_leak()->step, at);
    EXPECT_THAT(read_safetensors(loaded.checkpoint + "/model.safetensors").metadata.at("verdict"),
                HasSubstr("LEAKS: "));
  }

  testing::TemporaryDirectory directory_;
};

class MemoryAttacks : public AttackList {};
TEST_P(MemoryAttacks, AreCaught) {
  expect_caught(memory_model(), GetParam().found_at);
}
INSTANTIATE_TEST_SUITE_P(All, MemoryAttacks, ::testing::ValuesIn(memory_attacks()),
                         [](const auto& info) { return std::string(info.param.kind); });

class LatentAttacks : public AttackList {};
TEST_P(LatentAttacks, AreCaught) {
  expect_caught(latent_model(), GetParam().found_at);
}
INSTANTIATE_TEST_SUITE_P(All, LatentAttacks, ::testing::ValuesIn(latent_attacks()),
                         [](const auto& info) { return std::string(info.param.kind); });

// The whole list once more, with the questions that are asked of large models.
class ShortForms : public AttackList {
 protected:
  int64_t found_at() const {
    return GetParam().found_at_in_short < 0 ? GetParam().found_at : GetParam().found_at_in_short;
  }

  void SetUp() override {
    AttackList::SetUp();
    testing::reset_attacks(42);  // short forms call less often; still between steps 20 and 40
  }

 private:
  ShortFormsOnly short_forms_;
};
class MemoryAttacksInShort : public ShortForms {};
TEST_P(MemoryAttacksInShort, AreCaught) {
  expect_caught(memory_model(), found_at());
}
INSTANTIATE_TEST_SUITE_P(All, MemoryAttacksInShort, ::testing::ValuesIn(memory_attacks()),
                         [](const auto& info) { return std::string(info.param.kind); });
class LatentAttacksInShort : public ShortForms {};
TEST_P(LatentAttacksInShort, AreCaught) {
  expect_caught(latent_model(), found_at());
}
INSTANTIATE_TEST_SUITE_P(All, LatentAttacksInShort, ::testing::ValuesIn(latent_attacks()),
                         [](const auto& info) { return std::string(info.param.kind); });

// Allowed, it trains, and every number carries the label from the first on.
class AllowedAttacks : public AttackList {};
TEST_P(AllowedAttacks, AreLabelledEverywhere) {
  const bool latents = std::string(GetParam().what).find("token behind") != std::string::npos;
  MonitoredTrainer trainer(experiment(latents ? latent_model() : memory_model(), true),
                           control("run"));
  EXPECT_TRUE(trainer.leaks());
  trainer.run();
  expect_labelled_everywhere(0);
}
INSTANTIATE_TEST_SUITE_P(All, AllowedAttacks,
                         ::testing::Values(memory_attacks()[0], latent_attacks()[0]),
                         [](const auto& info) { return std::string(info.param.kind); });

// A finished run that leaks stays one, whoever resumes it: even where the process that resumes
// cannot see the leak any more.
class FinishedAttacks : public AttackList {};
TEST_P(FinishedAttacks, StayLeaksWhenResumed) {
  const ExperimentOptions options = experiment(memory_model(), false);
  MonitoredTrainer(options, control("run")).run();
  ASSERT_EQ(read_summary(directory_ / "run").at("causal"), false);
  testing::reset_attacks();
  MonitoredTrainer again(options, control("run", true));
  EXPECT_TRUE(again.leaks());
  again.run();
  expect_labelled_everywhere(GetParam().found_at);
}
// So does one that was killed after the discovery, before its next checkpoint.
TEST_P(FinishedAttacks, StayLeaksWhenTheCheckpointsBehindTheDiscoveryAreGone) {
  const ExperimentOptions options = experiment(memory_model(), false);
  MonitoredTrainer(options, control("run")).run();
  const std::string run = directory_ / "run";
  ASSERT_TRUE(std::filesystem::remove(file_in(run, kSummaryFile)));
  for (const std::string& checkpoint : checkpoints_of(run))
    if (read_checkpoint(checkpoint).state.at("step").get<int64_t>() >= GetParam().found_at)
      std::filesystem::remove_all(checkpoint);
  testing::reset_attacks();
  MonitoredTrainer again(options, control("run", true));
  EXPECT_TRUE(again.leaks());
  EXPECT_LT(again.step(), GetParam().found_at);
  again.run();
  // The steps that came again are of a run that is known to leak.
  const Json summary = read_summary(run);
  EXPECT_EQ(summary.at("label"), "LEAKS");
  EXPECT_EQ(Verdict::of_file(summary).first_leak()->step, GetParam().found_at);
  for (const Json& e : read_metrics(run))
    EXPECT_THAT(e.at("label").get<std::string>(), HasSubstr("LEAKS")) << e.dump();
  EXPECT_TRUE(load_run(run).leaks);
}
INSTANTIATE_TEST_SUITE_P(All, FinishedAttacks, ::testing::ValuesIn([] {
                           std::vector<Attack> late;
                           for (const Attack& a : memory_attacks())
                             if (a.found_at > 0) late.push_back(a);
                           return late;
                         }()),
                         [](const auto& info) { return std::string(info.param.kind); });

}  // namespace
}  // namespace reverie
