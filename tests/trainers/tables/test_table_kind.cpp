// Kinds of tables register themselves: this file adds one, and nothing else knows of it.

#include "trainers/tables/table_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/random.h"
#include "layers/language_model.h"
#include "layers/model_options.h"
#include "support/message_of.h"
#include "support/tests_directory.h"
#include "trainers/runs/experiment.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

struct EmptyPreset final : TablePreset {
  int64_t size = 0;
  void fields(Fields& f) override {
    TablePreset::fields(f);
    f.integer("size", size, kPositive, "number of cells");
    model_fields(f);
  }
};
struct EmptyDefinition final : TableDefinitionWith<EmptyPreset> {
  EmptyDefinition() : TableDefinitionWith("empty") {}
  std::string colour;
  void fields(Fields& f) override {
    TableDefinition::fields(f);
    f.text("colour", colour, {}, "of the cells");
    model_fields(f);
    preset_fields(f);
  }
};

class EmptyKind final : public TableKind {
 public:
  EmptyKind(const EmptyDefinition& definition, const TableFile& table)
      : size_(definition.presets.at(table.preset_name, "$.presets").size) {}
  std::vector<PlannedCell> cells() const override {
    return std::vector<PlannedCell>(size_t(size_));
  }
  void set_cell_values(const PlannedCell&, Config&) const override {}
  std::string plan(const std::vector<PlannedRun>&) const override { return ""; }
  std::vector<std::string> write(const std::vector<PlannedRun>&, int64_t) const override {
    return {};
  }

 private:
  int64_t size_;
};

const bool registered =
    TableKindRegistry::instance().add<EmptyKind, EmptyDefinition>("empty", "nothing");

Json table(const Json& patch = Json::object()) {
  Json t = {{"kind", "empty"},
            {"title", "nothing"},
            {"base", {{"seed", 1}}},
            {"models", {{"none", Json::object()}}},
            {"presets", {{"smoke", {{"seeds", {1}}, {"size", 3}}}}}};
  t.merge_patch(patch);
  return t;
}
std::unique_ptr<TableKind> kind_of(const Json& table) {
  TableFile file;
  file.definition = read_table_definition(Config(table, "$"));
  file.preset_name = "smoke";
  return make_table_kind(file);
}
std::string refused(const Json& patch) {
  return message_of<ConfigError>([&] { kind_of(table(patch)); });
}

TEST(TableKind, IsFoundByTheNameThatItRegistered) {
  EXPECT_EQ(kind_of(table())->cells().size(), 3u);
}

TEST(TableKind, AnUnknownNameListsTheKnownOnes) {
  EXPECT_THAT(
      refused({{"kind", "loses"}}),
      AllOf(HasSubstr("$.kind"), HasSubstr("\"loses\""), HasSubstr("did you mean \"losses\"?"),
            HasSubstr("empty, explained, latent_effect, losses, memory, reasoning, sweep")));
  EXPECT_THAT(refused({{"kind", 3}}), HasSubstr("$.kind is 3, wanted a string"));
}

TEST(TableKind, KeysThatItDidNotNameAreRefused) {
  EXPECT_THAT(refused({{"block_sizes", 1}}), HasSubstr("\"block_sizes\" at $"));
  EXPECT_THAT(refused({{"presets", {{"smoke", {{"sise", 3}}}}}}),
              AllOf(HasSubstr("\"sise\" at $.presets.smoke"), HasSubstr("\"size\"")));
  // Every preset is checked, not only the one that is asked for.
  EXPECT_THAT(refused({{"presets", {{"paper", {{"seeds", {1}}, {"size", 1}, {"sise", 3}}}}}}),
              HasSubstr("\"sise\" at $.presets.paper"));
}

TEST(TableKind, WhatEveryTableHasMustBeGiven) {
  for (const char* key : {"title", "base", "models", "presets"})
    EXPECT_THAT(refused({{key, nullptr}}), HasSubstr(fmt::format("missing key \"{}\" at $", key)));
  EXPECT_THAT(refused({{"presets", {{"smoke", {{"seeds", Json::array()}}}}}}),
              HasSubstr("$.presets.smoke.seeds is empty"));
}

TEST(TableKind, ANameThatIsTakenIsRefused) {
  EXPECT_THAT(message_of<InternalError>([] {
                TableKindRegistry::instance().add<EmptyKind, EmptyDefinition>("sweep", "taken");
              }),
              HasSubstr("\"sweep\""));
}

TEST(TableKind, ItsSchemaNamesTheKeysOfTableAndPreset) {
  const Json schema = table_schema("empty");
  EXPECT_FALSE(schema["additionalProperties"]);
  EXPECT_EQ(schema["required"], Json({"kind", "title", "base", "models", "presets"}));
  EXPECT_EQ(schema["properties"]["kind"]["enum"], Json({"empty"}));
  const Json& preset = schema["properties"]["presets"]["additionalProperties"];
  EXPECT_FALSE(preset["additionalProperties"]);
  EXPECT_EQ(preset["required"], Json({"seeds", "size"}));
  EXPECT_EQ(preset["properties"]["seeds"]["minItems"], 1);
}

// Every committed definition, with all its presets.
TEST(TableKind, CommittedDefinitionsAreRead) {
  int count = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(testing::test_directory() + "/../configs/tables")) {
    if (file.path().extension() != ".json") continue;
    const Component definition = read_table_definition(Config::from_file(file.path().string()));
    EXPECT_FALSE(component_options<TableDefinition>(definition).preset_names().empty());
    ++count;
  }
  EXPECT_GE(count, 5);
}

// The preset with the published code's own recipe: three seeds at its smallest block size, one at
// the others, and as many sequences a batch at all.
TEST(TableKind, SeedsOfABlockSize) {
  ReproOptions o;
  o.table_file = testing::test_directory() + "/../configs/tables/imm_shakespeare.json";
  o.preset = "author";
  o.directory = "unused";
  o.without_data = true;
  std::map<std::pair<int64_t, int64_t>, int> runs;  // by block size and seed
  for (const PlannedRun& r : plan_table(o)) {
    ++runs[{r.cell.level, r.seed}];
    EXPECT_EQ(r.config.at("train").at("batch_size").json(), 32);
  }
  const std::map<std::pair<int64_t, int64_t>, int> wanted = {
      {{64, 1337}, 5}, {{64, 1338}, 5}, {{64, 1339}, 5}, {{128, 1337}, 5}, {{256, 1337}, 5}};
  EXPECT_EQ(runs, wanted);
  o.table_overrides = {"presets.author.block_size_seeds={\"128\": [7]}"};
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(o); }),
              HasSubstr("$.presets.author: seeds of 128: 7 is none of the preset's seeds"));
  o.table_overrides = {"presets.author.block_size_seeds={\"wide\": [1337]}"};
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(o); }), HasSubstr("is no block size"));
}

// Its losses of every token are its base's, which would stand beside those of trained models.
TEST(TableKind, LossesOfAModelWithLatentsAreNotSetBesideOthers) {
  ReproOptions o;
  o.table_file = testing::test_directory() + "/../configs/tables/imm_shakespeare.json";
  o.preset = "smoke";
  o.directory = "unused";
  o.without_data = true;
  o.table_overrides = {R"(models.gpt={"model": {"type": "augmented"}})"};
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(o); }),
              HasSubstr("model \"gpt\" writes latents"));
}

int64_t parameters_of(const PlannedRun& run) {
  const DryRun dry;
  Generator random(1);
  const Component model = with_vocabulary_of_data(read_experiment(run.config, ".").model, 65);
  return ModelRegistry::instance()
      .make(model, Build{random, DType::f32, Device{}, false})
      ->parameter_count();
}

// "GPT, wider MLP" has IMM's extra parameters in every preset, as nearly as whole widths allow.
TEST(TableKind, TheWiderMlpHasTheParametersOfImm) {
  const AbsentDevicesAllowed planning;
  ReproOptions o;
  o.table_file = testing::test_directory() + "/../configs/tables/imm_shakespeare.json";
  o.directory = "unused";
  o.without_data = true;
  const Component table = read_table_definition(Config::from_file(o.table_file));
  int compared = 0;
  for (const std::string& preset : component_options<TableDefinition>(table).preset_names()) {
    o.preset = preset;
    std::map<int64_t, std::map<std::string, int64_t>> parameters;  // by block size and model
    int64_t width = 0;  // parameters of one more unit in the MLPs of all blocks
    for (const PlannedRun& r : plan_table(o)) {
      const Config model = r.config.at("model");
      width =
          2 * model.at("n_embd").json().get<int64_t>() * model.at("n_layer").json().get<int64_t>();
      int64_t& count = parameters[r.cell.level][r.cell.model];
      if (count == 0) count = parameters_of(r);
    }
    for (auto& [block_size, of] : parameters)
      for (const auto& [model, count] : of) {
        if (!model.starts_with("imm_")) continue;
        const double extra = double(count - of.at("gpt"));
        EXPECT_GT(extra, 0);
        EXPECT_NEAR(double(of.at("gpt_matched")), double(count),
                    std::max(0.01 * extra, 0.5 * double(width)))
            << preset << ", block size " << block_size << ", " << model;
        ++compared;
      }
  }
  EXPECT_EQ(compared, 3 * (1 + 3 + 3 + 3));
}

}  // namespace
}  // namespace reverie
