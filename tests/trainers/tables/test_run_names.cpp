// Directories of a table's runs: a new option, left at its default, must not disown finished runs.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/json.h"
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

}  // namespace
}  // namespace reverie
