// Finished runs that a table takes over: refused where they are not the planned ones any more.

#include "trainers/tables/reused_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/checks/summary_check.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"
#include "trainers/tables/repro.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;

// Two finished runs of four steps, which differ in their learning rates.
class ReusedRunsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 300; ++i) text << "The " << i << ". line of a text.\n";
    text.close();
    ASSERT_EQ(run_table(options()), 0);
    runs_ = plan_table(options());
    ASSERT_EQ(runs_.size(), 2u);
  }
  ReproOptions options(bool report_only = false) const {
    Json table = parse_json(R"({
      "kind": "sweep", "title": "two rates",
      "base": {"data": {},
        "model": {"type": "gpt2", "block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 8},
        "train": {"steps": 4, "batch_size": 2},
        "evaluation": {"interval": 2, "windows": 2, "prefix_only_windows": 1, "final_windows": 2,
                       "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}},
      "vary": {"optimizer.learning_rate": [0.01, 0.001]},
      "presets": {"sweep": {"seeds": [1]}}})");
    table["base"]["data"] = {{"path", folder_ / "text.txt"},
                             {"prepared_directory", folder_ / "tokens"}};
    ReproOptions o;
    o.table = std::move(table);
    o.table_file = folder_ / "sweep.json";
    o.preset = "sweep";
    o.directory = folder_ / "out";
    o.command = "reverie sweep";
    o.report_only = report_only;
    return o;
  }
  std::string refused(bool report_only) const {
    return message_of<DataError>([&] { run_table(options(report_only)); });
  }
  std::string file(size_t run, const char* name) const {
    return file_in(runs_[run].directory, name);
  }
  // `train --resume --set PATH=VALUE` in a run's directory.
  void resume(size_t run, const char* path, const Json& value) const {
    Config config = runs_[run].config;
    config.set(path, value);
    RunControl control;
    control.run_directory = runs_[run].directory;
    control.resume = true;
    testing::MonitoredTrainer(read_experiment(config, folder_.path()), control).run();
  }
  void change_summary(size_t run, const char* key, const Json& value) const {
    Json summary = parse_json(read_file(file(run, kSummaryFile)));
    if (value.is_null())
      summary.erase(key);
    else
      summary[key] = value;
    write_file_atomically(file(run, kSummaryFile), json_text(summary));
  }

  TemporaryDirectory folder_;
  std::vector<PlannedRun> runs_;
};

// A program that stands for this one, and finds this.
std::string program_that_finds(const TemporaryDirectory& folder, double change) {
  Verdict verdict;
  verdict.add({"figures anew", "somewhere", change, 1, 4});
  write_file_atomically(folder / "found.json",
                        json_text({{"verdict", verdict.json()}, {"step", 4}}));
  write_file_atomically(folder / "program", "#!/bin/sh\ncp '" + (folder / "found.json") +
                                                "' \"$5\"; echo \"$3\" >> '" + (folder / "asked") +
                                                "'\n");
  fs::permissions(folder / "program", fs::perms::owner_all);
  return folder / "program";
}

TEST_F(ReusedRunsTest, FiguresAreAskedAnewOnceInAProcessOfTheirOwn) {
  ReproOptions o = options();
  o.program = program_that_finds(folder_, 0);
  ASSERT_EQ(run_table(o), 0);  // both were finished without
  EXPECT_EQ(read_file(folder_ / "asked"), runs_[0].directory + "\n" + runs_[1].directory + "\n");
  fs::remove_all(runs_[1].directory);
  fs::remove(folder_ / "asked");
  ASSERT_EQ(run_table(o), 0);
  EXPECT_EQ(read_file(folder_ / "asked"), runs_[1].directory + "\n");
  EXPECT_TRUE(fs::exists(file(1, kSummaryCheckFile)));
}

TEST_F(ReusedRunsTest, ALeakThatOnlyAnotherProcessSeesStandsInTheTable) {
  ReproOptions o = options();
  o.program = program_that_finds(folder_, 2);
  EXPECT_EQ(run_table(o), int(ExitCode::check_failed));
  for (const PlannedRun& r : runs_) {
    EXPECT_TRUE(Verdict::of_file(read_summary(r.directory)).leaks());
    EXPECT_THAT(read_file(file_in(r.directory, "report.html")), HasSubstr("LEAKS"));
  }
  EXPECT_THAT(read_file(o.directory + "/table.md"), HasSubstr("LEAKS"));
}

TEST_F(ReusedRunsTest, ALongerRunIsRefusedBeforeAnythingIsTrained) {
  resume(0, "train.steps", 6);
  fs::remove_all(runs_[1].directory);
  for (const bool report_only : {true, false})
    EXPECT_THAT(refused(report_only),
                AllOf(HasSubstr(runs_[0].directory), HasSubstr("train.steps: 6 -> 4"),
                      HasSubstr("Remove the directory")));
  EXPECT_FALSE(fs::exists(runs_[1].directory));
}

TEST_F(ReusedRunsTest, ARunThatWasEvaluatedOtherwiseIsRefused) {
  fs::remove(file(0, kSummaryFile));
  resume(0, "evaluation.final_windows", 1);
  for (const bool report_only : {true, false})
    EXPECT_THAT(refused(report_only), HasSubstr("evaluation.final_windows: 1 -> 2"));
}

TEST_F(ReusedRunsTest, RunsThatChangedPlacesAreRefused) {
  const std::string aside = folder_ / "aside";
  fs::rename(runs_[0].directory, aside);
  fs::rename(runs_[1].directory, runs_[0].directory);
  fs::rename(aside, runs_[1].directory);
  for (const bool report_only : {true, false})
    EXPECT_THAT(refused(report_only),
                AllOf(HasSubstr(runs_[0].directory), HasSubstr("learning_rate: 0.001 -> 0.01")));
}

TEST_F(ReusedRunsTest, ASummaryOfAnotherRunIsRefused) {
  const std::string own = read_file(file(0, kSummaryFile));
  write_file_atomically(file(0, kSummaryFile), read_file(file(1, kSummaryFile)));
  for (const bool report_only : {true, false})
    EXPECT_THAT(refused(report_only),
                AllOf(HasSubstr(runs_[0].directory), HasSubstr("summary.json, config_hash is")));
  write_file_atomically(file(0, kSummaryFile), own);
  change_summary(0, "seed", 7);
  EXPECT_THAT(refused(true), HasSubstr("summary.json, seed is 7, wanted 1"));
  change_summary(0, "seed", 1);
  change_summary(0, "dataset", {{"name", "text"}, {"note", ""}, {"hash", "0123"}});
  EXPECT_THAT(refused(true), HasSubstr("summary.json, dataset/hash is \"0123\""));
  fs::remove(file(0, kConfigFile));
  EXPECT_THAT(refused(true), HasSubstr("no config.resolved.json"));
}

TEST_F(ReusedRunsTest, EarlierSummariesAndSettingsBesideTheFiguresAreAccepted) {
  resume(0, "checkpoint.keep", 5);
  resume(0, "sample.temperature", 0.5);
  change_summary(1, kConfigHashKey, nullptr);
  const auto before = fs::last_write_time(file(0, kSummaryFile));
  EXPECT_EQ(run_table(options()), 0);
  EXPECT_EQ(run_table(options(true)), 0);
  EXPECT_EQ(fs::last_write_time(file(0, kSummaryFile)), before);
}

TEST_F(ReusedRunsTest, TheConfigsHashIsOfWhatDecidesFigures) {
  const Json config = parse_json(read_file(file(0, kConfigFile)));
  EXPECT_EQ(read_summary(runs_[0].directory).at(kConfigHashKey), config_hash(config));
  Json moved = config, other = config;
  moved["data"]["path"] = "/elsewhere/text.txt";
  moved["checkpoint"]["keep"] = 9;
  other["train"]["batch_size"] = 3;
  EXPECT_EQ(config_hash(moved), config_hash(config));
  EXPECT_NE(config_hash(other), config_hash(config));
}

// table.md of an earlier call is no report of these runs.
TEST_F(ReusedRunsTest, AReportWithoutFinishedRunsIsAnError) {
  ASSERT_TRUE(fs::exists(folder_ / "out/table.md"));
  EXPECT_EQ(run_table(options(true)), 0);
  ReproOptions longer = options(true);
  longer.overrides = {"train.steps=6"};
  EXPECT_THAT(message_of<UserError>([&] { run_table(longer); }),
              AllOf(HasSubstr("none of the 2 planned runs is finished"),
                    HasSubstr(folder_ / "out/runs"), HasSubstr("Leave out --report-only")));
}

}  // namespace
}  // namespace reverie
