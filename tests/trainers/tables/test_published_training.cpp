// Tables of benchmarks whose first models are a published one, trained further on the task.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "datasets/example_marks.h"
#include "layers/pretrained/load.h"
#include "layers/thinking_model.h"
#include "support/message_of.h"
#include "support/published_model.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/working_folder.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;
using testing::WorkingFolder;

const PlannedRun& run_of(const std::vector<PlannedRun>& runs, const std::string& model,
                         const std::string& level) {
  for (const PlannedRun& run : runs)
    if (run.cell.model == model && run.cell.level_name == level) return run;
  throw InternalError("no run of " + model + " on " + level);
}
Json config_at(const PlannedRun& run, const char* object) {
  return run.config.at(object).json();
}

// ---- the preset of the repository's table -----------------------------------------------------

std::vector<PlannedRun> published_preset(std::vector<std::string> table_overrides = {}) {
  ReproOptions o;
  o.table_overrides = std::move(table_overrides);
  o.table_file = testing::test_directory() + "/../configs/tables/reasoning.json";
  o.preset = "smollm2_trained";
  o.directory = "out";
  o.without_data = true;
  return plan_table(o);
}

TEST(PublishedPreset, TrainsThePublishedFileAndThenWhatItBecame) {
  const std::vector<PlannedRun> runs = published_preset();
  std::set<std::string> models, tasks;
  for (const PlannedRun& run : runs) {
    models.insert(run.cell.model);
    EXPECT_EQ(run.config.at("precision").json(), "bf16");
    const Json data = config_at(run, "data");
    tasks.insert(data.at("problems").at("type").get<std::string>());
    EXPECT_EQ(data.at("tokenizer"), "pretrained") << run.cell.model;
    EXPECT_EQ(data.at("marks"), "tokens") << run.cell.model;
  }
  EXPECT_THAT(tasks, ::testing::ElementsAre("arithmetic", "reachability"));
  EXPECT_THAT(models, ::testing::IsSupersetOf(
                          {"direct", "steps", "pause", "pause_trained", "coconut", "coprocessor"}));
  for (const std::string task : {"arithmetic", "reachability"}) {
    for (const char* first : {"direct", "steps"}) {
      const Json model = config_at(run_of(runs, first, task), "model");
      EXPECT_EQ(model.at("type"), "pretrained");
      EXPECT_EQ(model.at("path"), config_at(runs[0], "data").at("tokenizer_files"));
      EXPECT_EQ(model.at("vocab_size"), 0);
      EXPECT_EQ(model.at("new_tokens"), int64_t(ExampleLayout::kMarks));
    }
    const std::string direct = run_of(runs, "direct", task).directory + "/hugging_face",
                      steps = run_of(runs, "steps", task).directory + "/hugging_face",
                      stage1 =
                          run_of(runs, "coconut", task + "-stage1").directory + "/hugging_face";
    EXPECT_EQ(config_at(run_of(runs, "pause_trained", task), "model").at("path"), direct);
    EXPECT_EQ(config_at(run_of(runs, "coprocessor", task + "-8"), "model").at("base"), direct);
    EXPECT_EQ(config_at(run_of(runs, "coconut", task + "-stage1"), "model").at("base"), steps);
    const Json last = config_at(run_of(runs, "coconut", task + "-stage2"), "model");
    EXPECT_EQ(last.at("base"), stage1);
    EXPECT_EQ(last.at("vocab_size"), 0) << "a thought is the data's last token";
    EXPECT_FALSE(last.contains("new_tokens")) << "the base has them";
  }
}

// GSM8K's task learns byte pairs, of which a published vocabulary has no need.
TEST(PublishedPreset, TakesGsm8kAsAnotherTask) {
  const auto runs = published_preset({R"(presets.smollm2_trained.tasks=["arithmetic", "gsm8k"])"});
  for (const std::string task : {"arithmetic", "gsm8k"}) {
    const Json data = config_at(run_of(runs, "direct", task), "data");
    EXPECT_EQ(data.at("tokenizer"), "pretrained");
    EXPECT_FALSE(data.contains("train_bpe")) << task;
    EXPECT_GE(config_at(run_of(runs, "pause", task + "-8"), "model").at("ahead"), 12);
    EXPECT_GE(config_at(run_of(runs, "coprocessor", task + "-8"), "model").at("ahead"), 12);
  }
  EXPECT_EQ(config_at(run_of(runs, "direct", "gsm8k"), "data").at("problems").at("digits"),
            "together");
  EXPECT_NO_THROW(run_of(runs, "coconut", "gsm8k-stage4"));
}

// ---- a tiny one, to its end ---------------------------------------------------------------------

class PublishedTraining : public ::testing::Test {
 protected:
  ReproOptions options() const {
    const Json t = parse_json(R"({
      "kind": "benchmarks", "title": "a published model, trained", "baseline": "direct",
      "base": {"data": {"tokenizer": "word"}, "train": {"steps": 3, "batch_size": 4},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 1},
        "evaluation": {"interval": 0, "windows": 4, "final_windows": 4, "final_prefix_only_windows": 1, "batch_size": 4},
        "sample": {"tokens": 0}},
      "tasks": {"products": {"data": {"problems": {"type": "arithmetic", "operation": "times", "digits": 2, "second_digits": 2, "train": 40, "held_out": 6}}}},
      "models": {
        "direct": {"model": {"type": "llama", "vocab_size": 0, "n_layer": 1, "n_head": 2, "n_embd": 16}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "steps": {"model": {"type": "llama", "vocab_size": 0, "n_layer": 1, "n_head": 2, "n_embd": 16}, "data": {"examples": {"stage": 0}}},
        "pause": {"model": {"type": "augmented", "insert": "targets", "groups": 1, "ahead": 12, "block_size": 96, "latents": {"type": "soft_embeddings"}}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "pause_trained": {"model": {"type": "pretrained", "block_size": 96}, "data": {"examples": {"stage": 9, "thoughts": 1}}},
        "coprocessor": {"model": {"type": "augmented", "insert": "targets", "groups": 1, "ahead": 12, "block_size": 96, "latents": {"type": "coprocessor"}}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "coconut": {"model": {"type": "coconut"}, "data": {"examples": {"thoughts": 1}}}},
      "from": {"pause": "direct", "pause_trained": "direct", "coprocessor": "direct", "coconut": "steps"},
      "staged": ["coconut"],
      "compared": {"coprocessor": ["pause", "steps"], "coconut": ["pause_trained"]},
      "presets": {"published": {"seeds": [3], "stages": {"products": 1},
        "cells": {"direct": [], "steps": [], "pause": [2], "pause_trained": [], "coprocessor": [2], "coconut": []},
        "patch": {"data": {"tokenizer": "pretrained", "tokenizer_files": "published", "marks": "tokens"}},
        "model_patches": {
          "direct": {"model": {"type": "pretrained", "path": "published", "new_tokens": 5, "n_layer": null, "n_head": null, "n_embd": null}},
          "steps": {"model": {"type": "pretrained", "path": "published", "new_tokens": 5, "n_layer": null, "n_head": null, "n_embd": null}},
          "coconut": {"model": {"vocab_size": 0}}}}}})");
    write_file_atomically(directory_ / "table.json", json_text(t));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "published";
    o.directory = directory_ / "out";
    return o;
  }
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

// Its vocabulary has spare rows: two of the marks take them, and the table grows by three.
TEST_F(PublishedTraining, TrainsAnswersAndGoesOnWithTheMarks) {
  const WorkingFolder here(directory_.path());  // prepared data go into data/
  testing::write_published_model(directory_ / "published", 2);
  const ReproOptions o = options();
  EXPECT_EQ(run_table(o), 0);
  const std::string file = directory_ / "out/table.json";
  const Json json = parse_json(read_file(file));
  EXPECT_EQ(json["finished_runs"], 6);
  ASSERT_EQ(json["rows"].size(), 6u);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["verdict"], "causal") << row;
    EXPECT_EQ(row["items"], 6) << row;
    EXPECT_GT(row["measured"]["tokens_written"]["mean"], 0) << row;
  }
  const auto runs = plan_table(o);
  const int32_t marks = testing::published_vocabulary()->vocabulary_size();
  for (const PlannedRun& run : runs)
    EXPECT_EQ(first_mark_in(*load_tokenizer(run.directory)), marks) << run.cell.model;
  for (const char* model : {"direct", "steps"}) {
    const std::string exported = run_of(runs, model, "products").directory + "/hugging_face";
    EXPECT_EQ(load_pretrained(exported).model->vocabulary_size(), marks + ExampleLayout::kMarks);
    EXPECT_EQ(first_mark_in(*load_tokenizer_for(exported + "/tokenizer.json")), marks);
  }
  const PlannedRun& stage = run_of(runs, "coconut", "products-stage1");
  EXPECT_EQ(thought_token_of(*load_run(stage.directory).model), marks + 4);
  EXPECT_FALSE(std::filesystem::exists(stage.directory + "/hugging_face"))
      << "nothing begins with the last stage";
  EXPECT_EQ(run_table(o), 0) << "all of it is there";
  EXPECT_EQ(parse_json(read_file(file))["rows"], json["rows"]);
  // Another published file in its place: runs that began with the first are not this table's.
  testing::write_published_model(directory_ / "published", 2, false);
  EXPECT_THAT(message_of<DataError>([&] { run_table(o); }), HasSubstr("has other weights"));
}

TEST_F(PublishedTraining, WhatDoesNotGoTogetherIsRefused) {
  const WorkingFolder here(directory_.path());
  testing::write_published_model(directory_ / "published");
  const auto refused = [](const ReproOptions& o) {
    return message_of<UserError>([&] { run_table(o); });
  };
  ReproOptions ahead = options(), words = options(), none = options();
  ahead.table_overrides = {"models.pause.model.ahead=8"};
  words.overrides = {"data.tokenizer=word"};
  none.table_overrides = {"presets.published.model_patches.direct.model.new_tokens=0"};
  // " 1 4 4 4" is 8 tokens, between two marks.
  EXPECT_THAT(refused(ahead),
              AllOf(HasSubstr("pause/products-2 seed 3: $.model.ahead is 8, and example "),
                    HasSubstr(" has 10 targets"), HasSubstr("set $.model.ahead to 10 or more")));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out")) << "before anything is trained";
  EXPECT_THAT(refused(words), HasSubstr("$.data.tokenizer is \"word\": wanted \"pretrained\""));
  EXPECT_THAT(refused(none), HasSubstr("wanted at least 5 new tokens"));
}

}  // namespace
}  // namespace reverie
