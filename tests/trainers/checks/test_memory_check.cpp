// Does a model use its memory? Runs trained on pairs of key and value that are shown in one window
// and asked in the next.

#include "trainers/checks/memory_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <fstream>

#include "core/error.h"
#include "core/random.h"
#include "layers/model_options.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;

constexpr int64_t kWindow = 6;

// A document a line: two keys, each with one of four values and its echo ("a2Rb0P") in the first
// window, and the same in any order in the second, where memory alone knows the values.
// A gradient goes through both windows (train.windows). The echo, which a value decides, makes the
// first window tell values apart; without it, as many steps teach the memory nothing of them.
class Recall : public ::testing::Test {
 protected:
  void SetUp() override {
    omp_set_num_threads(1);  // products this small only wait for a second
    std::ofstream text(directory_ / "text.txt");
    Generator random(5);
    for (int i = 0; i < 4000; ++i) {
      std::string facts[2];
      for (size_t k = 0; k < 2; ++k) {
        const uint64_t value = random.below(4);
        facts[k] = fmt::format("{}{}{}", "ab"[k], value, "PQRS"[value]);
      }
      for (int window = 0; window < 2; ++window) {
        const size_t first = size_t(random.below(2));
        text << facts[first] << facts[1 - first];
      }
      text << "\n";
    }
  }
  ExperimentOptions experiment(const std::string& memory, int64_t steps) const {
    Config c = Config::parse(
        fmt::format(
            R"({{"seed": 3, "data": {{"document_separator": "\n", "document_token": "\n"}},
            "model": {{"type": "gpt2", "block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 32, "memory": {}}},
            "train": {{"steps": {}, "batch_size": 32, "windows": 2}},
            "optimizer": {{"warmup_steps": 20, "learning_rate": 0.003, "weight_decay": 0}},
            "evaluation": {{"interval": 0, "windows": 64, "final_windows": 64, "prefix_only_windows": 2,
                          "final_prefix_only_windows": 4}},
            "sample": {{"interval": 0, "tokens": 0}}, "checkpoint": {{"interval": 0}}}})",
            memory, steps),
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    return read_experiment(c, ".");
  }
  static std::string slots(bool carry) {
    return fmt::format(
        R"({{"type": "imm", "mode": "slots", "low_rank_dim": 32, "num_slots": 8, "chunk_length": 3, "carry_state": {}}})",
        carry);
  }
  MemoryCheck check(const std::string& name, const std::string& memory, int64_t steps) {
    RunControl control;
    control.run_directory = directory_ / name;
    MonitoredTrainer(experiment(memory, steps), control).run();
    const LoadedRun run = load_run(control.run_directory);
    const Dataset data = prepare_and_open(run.options.data);
    const MemoryCheck found = check_memory(
        *run.model, ConsecutiveWindows(data.validation, data.documents, 32, kWindow, 0));
    std::printf("%s:\n%s\n", name.c_str(), found.text(run.verdict.mark()).c_str());
    return found;
  }

  void TearDown() override { omp_set_num_threads(threads_); }

  testing::TemporaryDirectory directory_;
  const int threads_ = omp_get_max_threads();
};

TEST_F(Recall, ThreeRunsThreeVerdicts) {
  const MemoryCheck used = check("carried", slots(true), 1500);
  EXPECT_EQ(used.use, MemoryCheck::Use::used);
  EXPECT_THAT(used.sentence(), HasSubstr("uses its memory across windows"));
  // Of the second window's six predictions two are one of four values: 2 ln 4 / 6 nats. Swapped
  // memory is no better than none as to these.
  EXPECT_LT(used.lines[0].carried, 0.3);
  EXPECT_GT(used.lines[1].change.mean, 0.3);
  EXPECT_EQ(used.lines[2].change.predictions, 0);  // no text has a third window
  EXPECT_EQ(used.layers.size(), 2u);
  EXPECT_TRUE(used.holds());

  const MemoryCheck wiped = check("wiped", slots(false), 400);
  EXPECT_EQ(wiped.use, MemoryCheck::Use::not_used);
  EXPECT_THAT(wiped.sentence(), ::testing::AllOf(HasSubstr("does not use its memory"),
                                                 HasSubstr("wiped at every window")));
  EXPECT_FALSE(wiped.holds());

  const MemoryCheck none = check("gpt", "null", 50);
  EXPECT_EQ(none.use, MemoryCheck::Use::none);
  EXPECT_THAT(none.sentence(), HasSubstr("has no memory"));
  EXPECT_TRUE(none.lines.empty());
  EXPECT_EQ(none.json().at("memory"), "none");
  EXPECT_FALSE(none.json().contains("changes"));

  const Json json = used.json();
  EXPECT_EQ(json.at("memory"), "used");
  EXPECT_TRUE(json.at("changes").at("frozen").is_null());
  for (const char* name : {"wiped", "swapped"}) {
    const Json& change = json.at("changes").at(name);
    EXPECT_NEAR(change.at("loss").get<double>() - change.at("loss_carried").get<double>(),
                change.at("change").get<double>(), 1e-9);
    EXPECT_LT(change.at("low"), change.at("high"));
  }
  EXPECT_TRUE(json.at("layers").contains("layer 1"));
}

TEST_F(Recall, TextsOfOneWindowAreRefused) {
  ExperimentOptions options = experiment(slots(true), 1);
  options.model = with_vocabulary_of_data(options.model, 11);
  const auto model = make_run_model(options);
  const Dataset data = prepare_and_open(options.data);
  EXPECT_THAT(message_of<UserError>([&] {
                check_memory(*model,
                             ConsecutiveWindows(data.validation, data.documents, 4, kWindow, 1));
              }),
              HasSubstr("wanted 2 or more"));
}

}  // namespace
}  // namespace reverie
