// Are a finished run's figures those of its checkpoint? Asked in this process: what a model
// remembers is forgotten first, as another process would never have seen it.

#include "trainers/checks/summary_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/runs/run_directory.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;

std::vector<std::string> names_of(const SummaryCheck& check) {
  std::vector<std::string> names;
  for (const SummaryCheck::Figure& f : check.figures) names.push_back(f.name);
  return names;
}
std::set<std::string> differing(const SummaryCheck& check) {
  std::set<std::string> names;
  for (const SummaryCheck::Figure& f : check.figures)
    if (!f.same()) names.insert(f.name);
  return names;
}

class CheckSummary : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::reset_attacks();
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  std::string run(const std::string& model, const std::string& patch = "{}") {
    Config c = Config::parse(
        R"({"seed": 7, "train": {"steps": 8, "batch_size": 6},
            "evaluation": {"interval": 4, "windows": 16, "prefix_only_windows": 8, "batch_size": 16,
                           "final_windows": 16, "final_prefix_only_windows": 8},
            "optimizer": {"warmup_steps": 2},
            "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 0}})",
        "test");
    c.merge(Config::parse("{\"model\": " + model + "}", "model"));
    c.merge(Config::parse(patch, "patch"));
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    RunControl control;
    control.run_directory = directory_ / "run";
    MonitoredTrainer trainer(read_experiment(c, "."), control);
    trainer.run();
    EXPECT_FALSE(trainer.leaks()) << trainer.verdict().line();
    return control.run_directory;
  }
  static std::string llama(const std::string& memory) {
    return R"({"type": "llama", "block_size": 24, "n_layer": 1, "n_head": 2, "n_embd": 16, )"
           R"("memory": )" +
           memory + "}";
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(CheckSummary, AnHonestRunsFiguresComeAgain) {
  const std::string directory = run(llama("null"));
  const SummaryCheck check = check_summary(directory);
  EXPECT_THAT(names_of(check),
              ElementsAre("val_loss_on_prefix_only_windows", "val_loss", "train_loss"));
  EXPECT_TRUE(check.same());
  EXPECT_TRUE(check.verdict().causal());
  EXPECT_TRUE(check.verdict().not_probed().empty()) << check.verdict().line();
  EXPECT_EQ(check.step, 8);
  EXPECT_LT(std::abs(check.figures[0].stored - check.figures[0].anew), 1e-6);
  EXPECT_LT(check.figures[0].allowed, 1e-4);
  EXPECT_THAT(check.text(), HasSubstr("the same\n"));
}

TEST_F(CheckSummary, BehindLatentsTheirFigureIsAskedToo) {
  const std::string directory =
      run(R"({"type": "augmented", "block_size": 24, "groups": 3, "ahead": 4, "base": ")" +
          testing::test_directory() +
          R"(/golden/pretrained/llama", "latents": {"type": "soft_embeddings", "count": 2}})");
  const SummaryCheck check = check_summary(directory);
  EXPECT_THAT(
      names_of(check),
      ElementsAre("val_loss_on_prefix_only_windows", "val_loss", "train_loss", "augmented.val_loss",
                  "augmented.base_loss_on_same_predictions", "augmented.train_loss"));
  EXPECT_TRUE(check.same()) << check.text();
}

constexpr const char* kCarries = R"({"type": "delta_rule", "heads": 1, "carry_state": true})";

TEST_F(CheckSummary, WhereMemoryIsCarriedItsFiguresAreAskedToo) {
  const std::string directory = run(llama(kCarries));
  const SummaryCheck check = check_summary(directory);
  EXPECT_THAT(names_of(check),
              ElementsAre("val_loss_on_prefix_only_windows", "val_loss", "train_loss",
                          "val_loss_carried", "val_loss_on_carried_windows"));
  EXPECT_TRUE(check.same()) << check.text();
  EXPECT_NE(check.figures[3].anew, check.figures[4].anew);
  EXPECT_LT(check.figures[3].allowed, 1e-3);
}

TEST_F(CheckSummary, EachFigureIsComparedWithItsOwn) {
  const std::string directory = run(llama(kCarries));
  const Json honest = read_stored_json(file_in(directory, kSummaryFile)).json();
  for (const char* name : {"train_loss", "val_loss_carried", "val_loss_on_carried_windows"}) {
    Json summary = honest;
    summary[name] = summary[name].get<double>() - 0.01;
    std::ofstream(file_in(directory, kSummaryFile)) << summary.dump();
    EXPECT_THAT(differing(check_summary(directory)), ElementsAre(name));
  }
}

TEST_F(CheckSummary, InDoublePrecisionOnlySumsMayDiffer) {
  const std::string directory = run(llama("null"), R"({"precision": "f64"})");
  const SummaryCheck check = check_summary(directory);
  EXPECT_TRUE(check.same()) << check.text();
  EXPECT_LT(check.figures[0].allowed, 1e-11);
}

TEST_F(CheckSummary, ACheckpointIsComparedWithFiguresOfItsOwnStep) {
  const std::string directory = run(llama("null"), R"({"checkpoint": {"interval": 4, "keep": 0}})");
  for (const char* named : {"@8", "@last", "/checkpoints/step_00000008"}) {
    const SummaryCheck check = check_summary(directory + named);
    EXPECT_TRUE(check.same()) << check.text();
    EXPECT_EQ(check.step, 8);
  }
  EXPECT_THAT(message_of<UserError>([&] { check_summary(directory + "@4"); }),
              HasSubstr("is the checkpoint of step 4, summary.json holds the figures of step 8"));
}

// In its own process nothing moves: every probe meets the same memory of the text.
TEST_F(CheckSummary, AModelThatRemembersWhatItWasEvaluatedOnIsFound) {
  const std::string directory = run(llama(R"({"type": "test_attack", "kind": "remembers"})"));
  testing::reset_attacks();
  const SummaryCheck check = check_summary(directory);
  EXPECT_FALSE(check.same()) << check.text();
  EXPECT_GT(std::abs(check.figures[0].anew - check.figures[0].stored), 0.01);
  EXPECT_TRUE(check.verdict().leaks());
  EXPECT_THAT(check.text(), HasSubstr("NOT THE SAME"));
}

// Where no memory is carried, its figures are honest: one figure alone can tell.
TEST_F(CheckSummary, AMemoryThatRemembersOnlyWhileItIsCarriedIsFound) {
  const std::string directory =
      run(llama(R"({"type": "test_attack", "kind": "carried_remembers"})"));
  testing::reset_attacks();
  const SummaryCheck check = check_summary(directory);
  EXPECT_THAT(differing(check), ElementsAre("val_loss_carried")) << check.text();
  EXPECT_TRUE(check.verdict().leaks());
  EXPECT_THAT(check.verdict().line(), HasSubstr("val_loss_carried"));
}

TEST_F(CheckSummary, AFigureOfAnotherRunIsFound) {
  const std::string directory = run(llama("null"));
  Json summary = read_stored_json(file_in(directory, kSummaryFile)).json();
  summary["val_loss_on_prefix_only_windows"] =
      summary["val_loss_on_prefix_only_windows"].get<double>() - 0.001;
  std::ofstream(file_in(directory, kSummaryFile)) << summary.dump();
  EXPECT_FALSE(check_summary(directory).same());
  summary["steps"] = 7;
  std::ofstream(file_in(directory, kSummaryFile)) << summary.dump();
  EXPECT_THAT(message_of<UserError>([&] { check_summary(directory); }),
              HasSubstr("summary.json is of step 7, the newest checkpoint of step 8"));
  std::filesystem::remove(file_in(directory, kSummaryFile));
  EXPECT_THAT(message_of<UserError>([&] { check_summary(directory); }), HasSubstr("not finished"));
}

// A program that stands for this one.
std::string program_that(const std::string& file, const std::string& does) {
  std::ofstream(file) << "#!/bin/sh\n" << does << "\n";
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  return file;
}

TEST_F(CheckSummary, InAProcessOfItsOwnALeakIsKept) {
  const std::string directory = directory_ / "run";
  std::filesystem::create_directory(directory);
  Verdict found;
  found.add({"a probe", "somewhere", 2, 1, 8});
  std::ofstream(directory_ / "found.json") << Json{{"verdict", found.json()}}.dump();
  const std::string says =
      program_that(directory_ / "says", "[ \"$1 $2 $3 $4\" = \"check summary " + directory +
                                            " --json\" ] && cp " + (directory_ / "found.json") +
                                            " \"$5\"; exit 5");
  EXPECT_TRUE(check_summary_in_own_process(says, directory).leaks());
  EXPECT_TRUE(kept_leak(directory).leaks());
}

TEST_F(CheckSummary, AProcessThatFailsProvesNothing) {
  const std::string directory = directory_ / "run";
  std::filesystem::create_directory(directory);
  const auto not_probed = [&](const std::string& program) {
    const Verdict v = check_summary_in_own_process(program, directory);
    EXPECT_FALSE(v.asked());
    EXPECT_FALSE(v.leaks());
    return v.not_probed().at(0);
  };
  EXPECT_THAT(not_probed(program_that(directory_ / "fails", "exit 3")),
              HasSubstr("ended with status 3"));
  EXPECT_FALSE(std::filesystem::exists(file_in(directory, kSummaryCheckFile)));
  EXPECT_THAT(not_probed(program_that(directory_ / "dies", "kill -9 $$")),
              HasSubstr("ended by signal 9"));
  EXPECT_THAT(not_probed(directory_ / "missing"), HasSubstr("No such file"));
  EXPECT_FALSE(kept_leak(directory).leaks());
}

}  // namespace
}  // namespace reverie
