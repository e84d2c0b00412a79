// Directories of a table's runs: a new option, left at its default, must not disown finished runs.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "support/tests_directory.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

// The names at commit cba91b0, before data.generated and train.windows. Where a change of the fields
// changes them, RunPlanner leaves a new field out while it has its default.
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

}  // namespace
}  // namespace reverie
