// A run's end and its later life: what is saved when, what a resumed run may change, how one of its
// checkpoints is named.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  Config config(const std::string& patch = "{}") {
    Config c = Config::parse(
        R"({"seed": 7, "model": {"type": "gpt2", "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16},
      "train": {"steps": 6, "batch_size": 4}, "optimizer": {"warmup_steps": 2, "learning_rate": 0.01},
      "evaluation": {"interval": 3, "windows": 8, "prefix_only_windows": 2, "final_windows": 8, "final_prefix_only_windows": 4},
      "sample": {"interval": 0, "tokens": 5}, "checkpoint": {"interval": 2, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.merge(Config::parse(patch, "patch"));
    return c;
  }
  ExperimentOptions experiment(const std::string& patch = "{}") {
    return read_experiment(config(patch), ".");
  }
  RunControl control(const std::string& name, bool resume = false) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    return c;
  }
  RunEnd train(const std::string& name, const std::string& patch = "{}", bool resume = false,
               Callback* callback = nullptr) {
    RunControl c = control(name, resume);
    if (callback) c.callbacks.push_back(callback);
    return MonitoredTrainer(experiment(patch), c).run();
  }
  // A run's measurements, without times.
  std::vector<std::string> measured(const std::string& name) {
    std::vector<std::string> lines;
    for (Json e : read_metrics(directory_ / name)) {
      for (const char* key : {"seconds", "tokens_per_second"}) e.erase(key);
      if (e.at("event") != "config") lines.push_back(e.dump());
    }
    return lines;
  }
  Json summary(const std::string& name) {
    Json s = read_summary(directory_ / name);
    // The verdict names all that was probed, which is more in a run that has ended twice.
    for (const char* key : {"seconds", "tokens_per_second", "verdict", "causality_worst"})
      s.erase(key);
    return s;
  }
  std::vector<std::string> steps_of(const std::string& name) {
    std::vector<std::string> names;
    for (const auto& folder : checkpoints_of(directory_ / name))
      names.push_back(fs::path(folder).filename().string().substr(5));
    return names;
  }

  TemporaryDirectory directory_;
  std::optional<SignalGuard> signals_{std::in_place};
};

// Sends itself a signal at a moment of a run.
struct SignalCallback final : Callback {
  SignalCallback(std::string moment, int64_t at) : when(std::move(moment)), step(at) {}
  void on_checkpoint(const RunView& t, const std::string&) override { maybe("checkpoint", t); }
  void on_step(const RunView& t, const StepInfo&) override { maybe("step", t); }
  void on_evaluation(const RunView& t, const EvaluationInfo&) override { maybe("evaluation", t); }
  void maybe(const char* what, const RunView& t) {
    if (when == what && t.step() == step) ::raise(SIGTERM);
  }
  std::string when;
  int64_t step;
};

TEST_F(RunTest, ASignalInAnyEvaluationLosesNothingAndChangesNothing) {
  const std::string patch = R"({"sample": {"interval": 3}, "checkpoint": {"interval": 0}})";
  train("whole", patch);
  int number = 0;
  for (const auto& [moment, step] : {std::pair{"step", 3},
                                     {"evaluation", 3},
                                     {"step", 6},
                                     {"checkpoint", 6},
                                     {"evaluation", 6}}) {
    const std::string name = "stopped" + std::to_string(number++);
    SignalCallback callback(moment, step);
    ASSERT_EQ(train(name, patch, false, &callback), RunEnd::stopped) << moment << step;
    EXPECT_FALSE(run_finished(directory_ / name)) << moment << step;
    EXPECT_EQ(steps_of(name), std::vector<std::string>{fmt::format("{:08}", step)});
    signals_.reset();  // a new one forgets the signal
    signals_.emplace();
    ASSERT_EQ(train(name, patch, true), RunEnd::finished);
    EXPECT_EQ(measured(name), measured("whole")) << moment << step;
    EXPECT_EQ(summary(name), summary("whole")) << moment << step;
  }
}

TEST_F(RunTest, TheLastCheckpointIsThereBeforeTheFinalEvaluation) {
  struct Fails final : Callback {
    void on_evaluation(const RunView& t, const EvaluationInfo&) override {
      if (t.step() == 6) throw MachineError("the disk is full");
    }
  } fails;
  EXPECT_THROW(train("run", "{}", false, &fails), MachineError);
  EXPECT_TRUE(latest_checkpoint(directory_ / "run").value().ends_with("step_00000006"));
  train("whole");
  train("run", "{}", true);
  EXPECT_EQ(summary("run"), summary("whole"));
  EXPECT_EQ(measured("run"), measured("whole"));
}

TEST_F(RunTest, AnOutputThatFailsBetweenStepsLosesNoStep) {
  struct Fails final : Callback {
    void on_step(const RunView&, const StepInfo& s) override {
      if (s.step == 5) throw MachineError("the disk is full");
    }
  } fails;
  EXPECT_THROW(train("run", R"({"checkpoint": {"interval": 0}})", false, &fails), MachineError);
  EXPECT_EQ(steps_of("run"), std::vector<std::string>{"00000005"});
}

TEST_F(RunTest, WhatWouldFailAtTheEndIsFoundBeforeTheFirstStep) {
  EXPECT_THAT(
      message_of<UserError>([&] {
        train("small",
              Json{{"data",
                    {{"validation_fraction", 0.001}, {"prepared_directory", directory_ / "few"}}}}
                  .dump());
      }),
      HasSubstr("validation.tok"));
  EXPECT_FALSE(fs::exists(directory_ / "small"));
  const std::string message = message_of<ConfigError>([&] {
    train("rates", R"({"optimizer": {"learning_rate": 1e-5}, "checkpoint": {"keep_best": true},
                       "evaluation": {"interval": 0}, "data": {"path": "/nowhere"}})");
  });
  EXPECT_THAT(message, AllOf(HasSubstr("minimum_learning_rate=1e-06"), HasSubstr("keep_best")));
  EXPECT_FALSE(fs::exists(directory_ / "rates"));
  // A sample is not worth a run.
  for (const char* prompt : {"", "€"}) {
    const std::string name = fmt::format("prompt{}", *prompt ? 1 : 0);
    EXPECT_EQ(train(name, Json{{"sample", {{"prompt", prompt}, {"interval", 2}}}}.dump()),
              RunEnd::finished);
    EXPECT_TRUE(run_finished(directory_ / name));
  }
  // Rows without a token are never drawn.
  train(
      "padded",
      R"({"model": {"vocab_size": 500}, "train": {"steps": 1}, "sample": {"tokens": 40, "temperature": 5}})");
  const auto lines = read_metrics(directory_ / "padded");
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(),
                          [](const Json& e) { return e.at("event") == "sample"; }));
}

TEST_F(RunTest, ALongerRunGoesOnWhereTheShorterEnded) {
  const std::string fixed = R"("optimizer": {"decay_steps": 10})";
  train("short", "{" + fixed + R"(, "train": {"steps": 6}})");
  train("short",
        "{" + fixed +
            R"(, "train": {"steps": 10}, "evaluation": {"windows": 4}, "sample": {"tokens": 3}})",
        true);
  train("long",
        "{" + fixed +
            R"(, "train": {"steps": 10}, "evaluation": {"windows": 4}, "sample": {"tokens": 3}})");
  const auto a = read_checkpoint(latest_checkpoint(directory_ / "short").value()).model,
             b = read_checkpoint(latest_checkpoint(directory_ / "long").value()).model;
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(bit_identical(a[i].second, b[i].second));
  EXPECT_EQ(summary("short"), summary("long"));
  EXPECT_TRUE(fs::exists(directory_ / "short/summary.step_00000006.json"));
  Json changes;
  for (const Json& e : read_metrics(directory_ / "short"))
    if (e.at("event") == "config") changes = e;
  EXPECT_EQ(changes.at("step"), 6);
  EXPECT_THAT(changes.dump(), AllOf(HasSubstr("$.train.steps: 6 -> 10"),
                                    HasSubstr("$.evaluation.windows: 8 -> 4")));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { train("short", "{" + fixed + R"(, "train": {"steps": 8}})", true); }),
              HasSubstr("$.train.steps: 10 -> 8"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                train("short", "{" + fixed + R"(, "train": {"steps": 12, "batch_size": 8}})", true);
              }),
              HasSubstr("batch_size"));
}

TEST_F(RunTest, TheBestCheckpointIsKeptAndOpensByName) {
  // So high a rate that the loss rises again.
  const std::string patch =
      R"({"train": {"steps": 40}, "evaluation": {"interval": 5}, "checkpoint": {"interval": 10, "keep": 1, "keep_best": true},
          "optimizer": {"learning_rate": 0.3, "minimum_learning_rate": 0.3, "warmup_steps": 20}})";
  train("run", patch);
  int64_t best = 0;
  double lowest = 1e9;
  for (const Json& e : read_metrics(directory_ / "run"))
    if (e.at("event") == "eval" && e.at("val_loss") < lowest) {
      lowest = e.at("val_loss");
      best = e.at("step");
    }
  ASSERT_LT(best, 40) << "the test wants a loss that rises";
  const std::string run = directory_ / "run";
  EXPECT_EQ(steps_of("run"), (std::vector<std::string>{fmt::format("{:08}", best), "00000040"}));
  EXPECT_TRUE(load_run(run + "@best").checkpoint.ends_with(fmt::format("{:08}", best)));
  EXPECT_TRUE(load_run(run + "@40").checkpoint.ends_with("step_00000040"));
  EXPECT_TRUE(load_run(run + "@last").checkpoint.ends_with("step_00000040"));
  EXPECT_TRUE(load_run(run).checkpoint.ends_with("step_00000040"));
  const std::string folder = fmt::format("{}/checkpoints/step_{:08}", run, best);
  EXPECT_EQ(load_run(folder).checkpoint, folder);
  EXPECT_EQ(load_run(folder + "/").checkpoint, folder);
  EXPECT_THAT(message_of<UserError>([&] { find_run(run + "@17"); }),
              HasSubstr(fmt::format("{}, 40", best)));
  EXPECT_THAT(message_of<UserError>([&] { find_run(run + "@worst"); }), HasSubstr("\"best\""));
  EXPECT_FALSE(find_run(directory_ / "none@best").has_value());
  train("plain");
  EXPECT_THAT(message_of<UserError>([&] { find_run(directory_ / "plain@best"); }),
              HasSubstr("keep_best"));
}

TEST_F(RunTest, ARunDirectoryThatIsMovedOrRemovedIsNoticed) {
  struct Moves final : Callback {
    std::string from, to;
    void on_step(const RunView&, const StepInfo& s) override {
      if (s.step != 3) return;
      if (to.empty())
        fs::remove_all(from);
      else
        fs::rename(from, to);
    }
  } moves;
  moves.from = directory_ / "run";
  moves.to = directory_ / "moved";
  EXPECT_THAT(message_of<MachineError>([&] { train("run", "{}", false, &moves); }),
              AllOf(HasSubstr("was moved to"), HasSubstr("step 4")));
  EXPECT_FALSE(fs::exists(moves.from));
  EXPECT_EQ(steps_of("moved").back(), "00000004");
  train("whole");
  train("moved", "{}", true);
  EXPECT_EQ(summary("moved"), summary("whole"));
  moves.to = "";
  EXPECT_THAT(message_of<MachineError>([&] { train("run", "{}", false, &moves); }),
              HasSubstr("was removed"));
  EXPECT_FALSE(fs::exists(moves.from));
}

TEST_F(RunTest, TokensThatChangeUnderTheRunEndItAtTheNextCheckpoint) {
  struct Alters final : Callback {
    std::string file;
    void on_step(const RunView&, const StepInfo& s) override {
      if (s.step != 3) return;
      std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(400).write("\7", 2);
    }
  } alters;
  alters.file = directory_ / "tokens/train.tok";
  EXPECT_THAT(message_of<DataError>([&] { train("run", "{}", false, &alters); }),
              HasSubstr("changed while it was in use"));
  EXPECT_EQ(steps_of("run"), std::vector<std::string>{"00000002"});
}

TEST_F(RunTest, PathsAreThoseOfTheConfigAndTheRunOpensFromAnywhere) {
  Config c = config();
  c.set("data.path=text.txt");
  c.set("data.prepared_directory=tokens");
  const fs::path before = fs::current_path();
  MonitoredTrainer(read_experiment(c, directory_.path()), control("run")).run();
  const Json resolved = Config::from_file(directory_ / "run/config.resolved.json").json();
  EXPECT_EQ(resolved.at("data").at("path"), directory_ / "text.txt");
  fs::current_path("/");
  EXPECT_NO_THROW(prepare_and_open(load_run(directory_ / "run").options.data));
  fs::current_path(before);
  // One of an older program: relative paths, from where it was started, and fewer keys.
  Json old = resolved;
  old["data"]["path"] = "text.txt";
  old["data"]["prepared_directory"] = "tokens";
  old["checkpoint"].erase("keep_best");
  write_file_atomically(directory_ / "run/config.resolved.json", old.dump());
  fs::current_path(directory_.path());
  EXPECT_EQ(train("run", R"({"train": {"steps": 7}})", true), RunEnd::finished);
  fs::current_path(before);
}

// Runs "a" and others, whose directories are edited and mixed.
class MixedRunTest : public RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    train("a");
  }
  std::string in(const std::string& run, const std::string& file) const {
    return directory_ / (run + "/" + file);
  }
  void edit(const std::string& run, const std::string& assignment) {
    Config c = Config::from_file(in(run, kConfigFile));
    c.set(assignment);
    write_file_atomically(in(run, kConfigFile), c.json().dump());
  }
  void take(const std::string& file, const std::string& from) {
    fs::remove_all(in("a", file));
    fs::copy(in(from, file), in("a", file), fs::copy_options::recursive);
  }
  // Lines like those of "a" in another order, with `first` for the first letter of each.
  void train_on_another_text(const std::string& run, char first) {
    std::ofstream text(directory_ / (run + ".txt"));
    for (int i = 299; i >= 0; --i)
      text << first << "he " << i << ". line of a made-up text, to be learnt.\n";
    text.close();
    train(run, Json{{"data",
                     {{"path", directory_ / (run + ".txt")},
                      {"prepared_directory", directory_ / (run + "-tokens")}}}}
                   .dump());
  }
  std::string refused() {
    return message_of<DataError>([&] { load_run(directory_ / "a"); });
  }
};

TEST_F(MixedRunTest, AnEditedConfigIsRefused) {
  const std::string before = read_file(in("a", kConfigFile));
  const std::pair<const char*, const char*> edits[] = {
      {"model.n_head=4", "$.model.n_head: 2 -> 4"},
      {"model.layer_norm_eps=0.1", "$.model.layer_norm_eps: "},
      {"data.validation_fraction=0.2", "$.data.validation_fraction: 0.1 -> 0.2"},
      {"optimizer.learning_rate=0.5", "$.optimizer.learning_rate: 0.01 -> 0.5"},
      {"seed=8", "$.seed: 7 -> 8"}};
  for (const auto& [assignment, said] : edits) {
    edit("a", assignment);
    EXPECT_THAT(refused(), AllOf(HasSubstr(in("a", kConfigFile)),
                                 HasSubstr("step_00000006/state.json"), HasSubstr(said)));
    write_file_atomically(in("a", kConfigFile), before);
  }
  EXPECT_NO_THROW(load_run(directory_ / "a"));
}

TEST_F(MixedRunTest, LengthsPlacesAndMeasurementsMayBeOthers) {
  for (const char* assignment :
       {"train.steps=100", "train.steps=4", "evaluation.windows=3", "sample.tokens=7",
        "checkpoint.keep=1", "data.path=/elsewhere/text.txt", "data.prepared_directory=/elsewhere"})
    edit("a", assignment);
  EXPECT_NO_THROW(load_run(directory_ / "a"));
  EXPECT_NO_THROW(load_run(directory_ / "a@4"));
  fs::rename(directory_ / "a", directory_ / "moved");
  EXPECT_NO_THROW(load_run(directory_ / "moved"));
}

TEST_F(MixedRunTest, OtherMachinesAndEarlierVersionsMayHaveWrittenTheCheckpoint) {
  CheckpointContents c = read_latest_checkpoint(directory_ / "a").value().contents;
  c.state["config"]["device"] = "cuda";
  c.state["config"]["plugins"] = Json::array({"/nowhere/gone.so"});
  c.state["config"]["checkpoint"].erase("keep_best");
  write_checkpoint(directory_ / "a", 6, c, 0);
  EXPECT_NO_THROW(load_run(directory_ / "a"));
  c.state.erase("config");
  c.state.erase("data_hash");
  write_checkpoint(directory_ / "a", 6, c, 0);
  edit("a", "seed=8");
  EXPECT_NO_THROW(load_run(directory_ / "a"));
  fs::remove(in("a", "dataset.json"));
  EXPECT_NO_THROW(load_run(directory_ / "a"));
}

TEST_F(MixedRunTest, ACheckpointOfAnotherRunIsRefused) {
  train("b", R"({"seed": 8})");
  train_on_another_text("c", 'T');
  take("checkpoints", "b");
  EXPECT_THAT(refused(), HasSubstr("$.seed: 8 -> 7"));
  take("checkpoints", "c");  // of the same config, but for the places of its files
  EXPECT_THAT(refused(), AllOf(HasSubstr(in("a", "dataset.json")), HasSubstr("other data")));
}

TEST_F(MixedRunTest, ATokenizerOfAnotherRunIsRefused) {
  train_on_another_text("c", 'Q');
  take(std::string(kTokenizerFile), "c");
  EXPECT_THAT(refused(), AllOf(HasSubstr(in("a", std::string(kTokenizerFile))),
                               HasSubstr("another tokenizer than the run's")));
  take("dataset.json", "c");  // with the description that goes with it
  EXPECT_THAT(refused(), AllOf(HasSubstr(in("a", "dataset.json")), HasSubstr("other data")));
}

}  // namespace
}  // namespace reverie
