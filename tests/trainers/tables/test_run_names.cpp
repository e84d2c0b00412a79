// Directories of a table's runs: a new option, left at its default, must not disown finished runs.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "datasets/prepare.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/working_folder.h"
#include "trainers/runs/experiment.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

// The names at commit cba91b0, before data.generated and train.windows. Where a change of the
// fields changes them, RunPlanner leaves a new field out while it has its default.
TEST(RunNames, StayWhenOptionsAreAdded) {
  ReproOptions o;
  o.table = parse_json(R"({
    "title": "names",
    "base": {"data": {"name": "made_up", "path": "/nowhere/made_up.txt", "tokenizer": "char"},
             "model": {"type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8},
             "train": {"steps": 4}},
    "block_sizes": {"8": {}},
    "models": {"gpt": {}, "imm": {"model": {"memory": {"type": "imm", "mode": "causal_mean"}}},
               "muon": {"optimizer": {"type": "muon"}}},
    "presets": {"smoke": {"models": ["gpt", "imm", "muon"], "block_sizes": [8], "seeds": [1]}}})");
  o.table_file = "names.json";
  o.preset = "smoke";
  o.directory = "out";
  o.without_data = true;
  std::vector<std::string> names;
  for (const PlannedRun& run : plan_table(o))
    names.push_back(std::filesystem::path(run.directory).filename());
  EXPECT_EQ(names, (std::vector<std::string>{"gpt-8-seed1-5fe7c8f4", "imm-8-seed1-0de9420c",
                                             "muon-8-seed1-1658273b"}));
}

// Runs of the shipped tables of latents that were made before base_lora was among their models.
TEST(RunNames, StayWhenAModelIsAdded) {
  const std::string file = testing::test_directory() + "/../configs/tables/cache_augmentation.json";
  const Json shipped = parse_json(read_file(file));
  for (const char* preset : {"smollm2", "gemma3", "paper"}) {
    const auto names = [&](const Json& table) {
      ReproOptions o;
      o.table = table;
      o.table_file = file;
      o.preset = preset;
      o.directory = "out";
      o.overrides = {"device=cpu"};
      o.without_data = true;
      std::vector<std::string> all;
      for (const PlannedRun& run : plan_table(o))
        all.push_back(std::filesystem::path(run.directory).filename());
      return all;
    };
    Json before = shipped;
    Json& earlier = before["presets"][preset];
    ASSERT_EQ(earlier["cells"].erase("base_lora"), 1u) << preset;
    if (earlier.contains("sweep")) {
      earlier["sweep"]["models"].erase("base_lora");
    }
    earlier["model_patches"].erase("base_lora");
    auto now = names(shipped);
    const auto added = std::erase_if(
        now, [](const std::string& name) { return name.starts_with("base_lora-0-seed"); });
    EXPECT_GE(added, 2u) << preset;
    EXPECT_EQ(now, names(before)) << preset;
  }
}

// The names at commit 6625f20, before data.marks and tokens that a published vocabulary gets. Data
// are prepared, and runs begin with others', since both are part of a name.
TEST(RunNames, OfModelsThatBeginWithOthersStayAsWell) {
  const testing::TemporaryDirectory directory;
  const testing::WorkingFolder here(directory.path());
  ReproOptions o;
  o.table = parse_json(R"({
    "kind": "benchmarks", "title": "names", "baseline": "direct",
    "base": {"data": {"tokenizer": "word"}, "train": {"steps": 2, "batch_size": 2},
             "evaluation": {"interval": 0, "windows": 2, "final_windows": 2, "final_prefix_only_windows": 1, "batch_size": 2},
             "sample": {"tokens": 0}},
    "tasks": {"sums": {"data": {"problems": {"type": "arithmetic", "operation": "plus", "digits": 1, "second_digits": 1, "train": 20, "held_out": 4}}}},
    "models": {
      "direct": {"model": {"type": "llama", "vocab_size": 0, "block_size": 32, "n_layer": 1, "n_head": 1, "n_embd": 8, "n_hidden": 8}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
      "continued": {"model": {"type": "pretrained", "block_size": 24}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
      "coconut": {"model": {"type": "coconut"}, "data": {"examples": {"thoughts": 1}}}},
    "from": {"continued": "direct", "coconut": "direct"}, "staged": ["coconut"],
    "presets": {"tiny": {"seeds": [3], "stages": {"sums": 1}, "cells": {"direct": [], "continued": [], "coconut": []}}}})");
  o.table_file = "table.json";
  o.preset = "tiny";
  o.directory = "out";
  for (const PlannedRun& run : plan_table(o))
    prepare_dataset(describe_dataset(read_experiment(run.config, ".").data));
  const auto names = [&o] {
    std::vector<std::string> all;
    for (const PlannedRun& run : plan_table(o))
      all.push_back(std::filesystem::path(run.directory).filename());
    return all;
  };
  using Names = std::vector<std::string>;
  const Names now = {"direct-sums-seed3-f2b601d4", "continued-sums-seed3-e1b2f26b",
                     "coconut-sums-stage1-seed3-cf50fa63"};
  EXPECT_EQ(names(), now);
  // Where the table lies, under which the base does, is no part of a name.
  o.directory = directory / "elsewhere/deeper";
  EXPECT_EQ(names(), now);

  // It was at that commit: finished runs are found further.
  o.directory = "out";
  std::filesystem::create_directories("out/runs/continued-sums-seed3-4b344d30");
  EXPECT_EQ(names(), (Names{now[0], "continued-sums-seed3-4b344d30", now[2]}));
  std::filesystem::create_directories("out/runs/coconut-sums-stage1-seed3-b9173b0f");
  EXPECT_EQ(names(),
            (Names{now[0], "continued-sums-seed3-4b344d30", "coconut-sums-stage1-seed3-b9173b0f"}));
}

}  // namespace
}  // namespace reverie
