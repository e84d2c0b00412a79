// Tables of reasoning: stages that stand on one another, answers that are counted, what the files
// say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/generation/answer_accuracy.h"
#include "trainers/probes/causality.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/reasoning/reasoning_table.h"
#include "trainers/tables/repro.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;

// ---- the table, from figures -------------------------------------------------------------------
ReasoningRun run(const std::string& model, int64_t stage, int64_t seed, int64_t right) {
  const Json summary = {{"seconds", 10.0},
                        {"commit", "0123456789abcdef"},
                        {"dataset", {{"name", "prosqa"}, {"note", ""}, {"hash", "abc"}}}};
  return {model, stage, seed, summary, "runs/x", {20, right, 7.5}, {10, 10, 7.0}};
}
Json definition() {
  return parse_json(R"({"title": "thoughts", "planned_runs": 5,
    "models": {"coconut": {"title": "Coconut", "description": "thinks"},
               "no_thought": {"title": "None"}}})");
}

ReasoningTable reasoning_table(Json definition, const std::vector<ReasoningRun>& runs) {
  const TableHeading heading = testing::take_heading(definition);
  return build_reasoning_table(testing::read_report<TableReport>(definition), heading, runs);
}

TEST(ReasoningTable, LinesAreInTheOrderOfModelsAndStagesAndSeedsAreTakenTogether) {
  const ReasoningTable table = reasoning_table(
      definition(), {run("no_thought", 1, 1, 4), run("coconut", 2, 1, 9), run("coconut", 1, 1, 10),
                     run("coconut", 1, 2, 13), run("", 0, 0, 16)});
  const Json json = reasoning_table_json(table);
  std::vector<std::string> order;
  for (const Json& row : json["rows"])
    order.push_back(json_text(row["model"]) + json_text(row["stage"]));
  EXPECT_THAT(order, ElementsAre("null0", "\"coconut\"1", "\"coconut\"2", "\"no_thought\"1"));
  const Json& row = json["rows"][1];
  EXPECT_EQ(row["seeds"], Json({1, 2}));
  EXPECT_EQ(row["measured"]["held_out"],
            Json({{"accuracy", 23.0 / 40}, {"right", 23}, {"of", 40}, {"tokens_written", 7.5}}));
  EXPECT_EQ(json["finished_runs"], 4);
  const std::string text = reasoning_table_markdown(table);
  EXPECT_THAT(text,
              HasSubstr("| Coconut | 1 | 57.5 % (23 of 40) | 100.0 % (20 of 20) | 7.5 | 2 |"));
  EXPECT_THAT(text, HasSubstr("**4 of 5 planned runs have finished.**"));
}

TEST(ReasoningTable, ALeakLabelsItsLine) {
  auto leaking = run("coconut", 1, 1, 10), causal = run("coconut", 2, 1, 10);
  leaking.summary["causal"] = false;
  leaking.summary["label"] = "LEAKS";
  Verdict v;
  v.add({"cuts", "", 0, 1e-6, 20});
  causal.summary["verdict"] = v.json();
  const ReasoningTable table =
      reasoning_table(definition(), {leaking, causal, run("no_thought", 1, 1, 4)});
  const Json rows = reasoning_table_json(table)["rows"];
  EXPECT_EQ(rows[0]["verdict"], "LEAKS");
  EXPECT_EQ(rows[0]["label"], "LEAKS");
  EXPECT_EQ(rows[1]["verdict"], "causal");
  EXPECT_EQ(rows[2]["verdict"], "unknown");
  EXPECT_FALSE(rows[1].contains("label"));
  const std::string text = reasoning_table_markdown(table);
  EXPECT_THAT(
      text, HasSubstr("50.0 % (10 of 20)  LEAKS | 100.0 % (10 of 10)  LEAKS | 7.5 | 1 | LEAKS |"));
  EXPECT_THAT(text, HasSubstr("50.0 % (10 of 20) | 100.0 % (10 of 10) | 7.5 | 1 | causal |"));
}

TEST(ReasoningTable, RefusesTheSameRunTwiceAndOtherTexts) {
  EXPECT_THAT(message_of<UserError>([&] {
                reasoning_table(definition(), {run("coconut", 1, 1, 4), run("coconut", 1, 1, 4)});
              }),
              HasSubstr("seed 1"));
  auto other = run("coconut", 2, 1, 4);
  other.summary["dataset"]["hash"] = "def";
  EXPECT_THROW(reasoning_table(definition(), {run("coconut", 1, 1, 4), other}), UserError);
}

// Data are prepared under the working directory, one folder for each stage.
class WorkingDirectory {
 public:
  explicit WorkingDirectory(const std::string& directory)
      : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(directory);
  }
  ~WorkingDirectory() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_;
};

// ---- from the table's file ---------------------------------------------------------------------
class ReasoningReproTest : public ::testing::Test {
 protected:
  // Who begins with n ends with n: three steps lead there.
  ReasoningReproTest() {
    Json examples = Json::array();
    for (int i = 0; i < 40; ++i) {
      const std::string n = "n" + std::to_string(i % 4);
      examples.push_back({{"question", n + " leads on. Where?"},
                          {"steps", {n + " a.", n + " b.", n + " c."}},
                          {"answer", "To " + n + "."}});
    }
    std::ofstream(directory_ / "examples.json") << json_text(examples);
  }
  ReproOptions options(const Json& patch = Json::object()) const {
    Json t = parse_json(R"({
      "kind": "reasoning", "title": "a small table of reasoning",
      "report": {"models": {"coconut": {"title": "Coconut"}}},
      "base": {"data": {"tokenizer": "word", "examples": {"form": "prosqa"}, "validation_fraction": 0.2},
        "model": {"type": "coconut"}, "train": {"steps": 8, "batch_size": 4},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2},
        "evaluation": {"interval": 0, "final_windows": 4, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}},
      "models": {"coconut": {"data": {"examples": {"thoughts": 1}}},
                 "no_thought": {"data": {"examples": {"thoughts": 0}}},
                 "chain_of_thought": {"data": {"examples": {"stage": 0}}}},
      "presets": {"tiny": {"models": ["coconut", "no_thought", "chain_of_thought"], "stages": 2,
        "seeds": [3], "measure": {"train_examples": 8},
        "pretraining": {"model": {"type": "llama", "vocab_size": 0, "block_size": 40, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32},
          "train": {"steps": 120, "batch_size": 8}}}}})");
    t["base"]["data"]["path"] = directory_ / "examples.json";
    t.merge_patch(patch);
    write_file_atomically(directory_ / "table.json", json_text(t));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    o.without_data = true;
    return o;
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(ReasoningReproTest, EveryStageBeginsFromTheOneBefore) {
  const auto runs = plan_table(options());
  std::vector<std::string> order;
  for (const PlannedRun& r : runs) order.push_back(r.cell.model + std::to_string(r.cell.level));
  EXPECT_THAT(order, ElementsAre("base0", "coconut1", "no_thought1", "chain_of_thought1",
                                 "coconut2", "no_thought2", "chain_of_thought2"));
  const auto base = [&](size_t i) { return runs[i].config.at("model").at("base").json(); };
  for (const size_t first : {1, 2, 3}) {
    EXPECT_EQ(base(first), runs[0].directory + "/hugging_face");
    EXPECT_EQ(base(first + 3), runs[first].directory + "/hugging_face");
  }
  const auto stage = [&](size_t i) {
    return runs[i].config.at("data").at("examples").at("stage").json();
  };
  EXPECT_EQ(stage(1), 1);
  EXPECT_EQ(stage(5), 2);
  EXPECT_EQ(stage(6), 0) << "a model's own stage stays";
}

TEST_F(ReasoningReproTest, ErrorsSayWhatAndWhere) {
  const auto refused = [&](const char* patch) {
    return message_of<ConfigError>([&] { plan_table(options(parse_json(patch))); });
  };
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"stages": 0}}})"),
              HasSubstr("$.presets.tiny.stages must be an integer in 1.."));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"cells": {}}}})"), HasSubstr("cells"));
  EXPECT_THAT(refused(R"({"models": {"coconut": {"model": {"type": "llama"}}}})"),
              HasSubstr("\"coconut\""));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"measure": {"example": 3}}}})"),
              HasSubstr("\"examples\""));
}

TEST_F(ReasoningReproTest, TrainsByStageCountsAnswersAndReuses) {
  const WorkingDirectory here(directory_.path());
  ReproOptions o = options();
  o.without_data = false;
  for (const PlannedRun& r : plan_table(o)) EXPECT_FALSE(r.data_prepared) << r.directory;
  EXPECT_FALSE(std::filesystem::exists("data")) << "naming a run prepares nothing";
  EXPECT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  for (const PlannedRun& r : runs) EXPECT_TRUE(r.data_prepared) << r.directory;
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(json["rows"].size(), 7u);
  EXPECT_EQ(json["finished_runs"], 6);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["measured"]["held_out"]["of"], 8) << row;
    EXPECT_EQ(row["measured"]["train"]["of"], 8) << row;
  }
  // There is nothing to it: whoever has learnt the chain answers all, held out or not.
  EXPECT_EQ(json["rows"][0]["measured"]["held_out"]["right"], 8);
  EXPECT_GT(json["rows"][0]["measured"]["held_out"]["tokens_written"].get<double>(), 12);

  const LoadedRun thinker = load_run(runs[4].directory);
  EXPECT_EQ(thinker.options.model.type, "coconut");
  EXPECT_TRUE(probe_causality(*probing_copy(thinker.options.model, nullptr), {}).causal());
  const Dataset data = prepare_and_open(thinker.options.data);
  EXPECT_EQ(data.examples->length, 6 + 4 + 3 + 4 + 1);  // question, thoughts, step, answer, end

  const auto time_of = [&](const std::string& file) {
    return std::filesystem::last_write_time(runs[4].directory + file);
  };
  const auto summary = time_of("/summary.json"), answers = time_of("/answers.json");
  EXPECT_EQ(run_table(o), 0);
  EXPECT_EQ(time_of("/summary.json"), summary);
  EXPECT_EQ(time_of("/answers.json"), answers);
}

// A model that writes nothing right: no answer is right.
TEST_F(ReasoningReproTest, AnUntrainedModelAnswersNothing) {
  DataOptions o;
  o.path = directory_ / "examples.json";
  o.prepared_directory = directory_ / "tokens";
  o.tokenizer = "word";
  o.examples.form = "prosqa";
  const Dataset data = prepare_and_open(o);
  Generator random(1);
  const ModelRegistry& models = ModelRegistry::instance();
  const Json config = {{"type", "llama"},  {"vocab_size", data.vocabulary_size()},
                       {"block_size", 40}, {"n_layer", 1},
                       {"n_head", 2},      {"n_embd", 16}};
  const auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random});
  int64_t done = 0;
  const AnswerAccuracy accuracy = answer_accuracy(*model, data.validation, *data.examples, 3,
                                                  [&](int64_t count) { done = count; });
  EXPECT_EQ(accuracy.examples, 3);
  EXPECT_EQ(done, 3);
  EXPECT_EQ(accuracy.right, 0);
  EXPECT_GT(accuracy.written, 0);
}

}  // namespace
}  // namespace reverie
