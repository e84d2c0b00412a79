// A model's architecture at a fraction of its size.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "layers/language_model.h"
#include "support/registered_components.h"
#include "trainers/probes/causality.h"
#include "trainers/probes/gate_effort.h"
#include "trainers/probes/reduced_model.h"

namespace reverie {
namespace {

Component resolved(const Json& json) {
  return resolve_component(ModelRegistry::instance(), Config(json, "$.model"));
}
std::unique_ptr<LanguageModel> made(const Component& component) {
  Generator random(3);
  return ModelRegistry::instance().make(component, Build{random, DType::f32});
}

TEST(ReducedModel, KeepsPartsAndOptionsAndMakesSizesSmall) {
  const Json large = {{"type", "gpt2"},
                      {"vocab_size", 5000},
                      {"block_size", 64},
                      {"n_layer", 12},
                      {"n_head", 12},
                      {"n_embd", 768},
                      {"bias", true},
                      {"memory", {{"type", "imm"}, {"mode", "causal_mean"}, {"low_rank_dim", 96}}}};
  const Json small = *reduced_model(resolved(large)).resolved;
  EXPECT_EQ(small.at("n_layer"), 3);
  EXPECT_EQ(small.at("n_head"), 4);
  EXPECT_EQ(small.at("n_embd"), 32);
  EXPECT_EQ(small.at("vocab_size"), 64);
  EXPECT_EQ(small.at("block_size"), 64);
  EXPECT_EQ(small.at("bias"), true);
  EXPECT_EQ(small.at("memory"), resolved(large).resolved->at("memory"));
}

// Its table comes from its files, whatever of it is used: a copy would be as large as the model.
TEST(ReducedModel, KeepsTheVocabularyOfAPublishedModel) {
  const std::string path = testing::test_directory() + "/golden/pretrained/llama";
  for (const Json& json : {Json{{"type", "pretrained"}, {"path", path}, {"vocab_size", 66}},
                           Json{{"type", "coconut"}, {"base", path}, {"vocab_size", 66}}}) {
    Json with = json;
    with["new_tokens"] = 5;
    const Component model = resolved(with);
    EXPECT_EQ(*reduced_model(model).resolved, *model.resolved);
  }
}

TEST(ReducedModel, KeepsGroupsOfHeadsAndKindsOfLayers) {
  const Json small = *reduced_model(resolved({{"type", "gemma3"},
                                              {"vocab_size", 5000},
                                              {"block_size", 64},
                                              {"n_layer", 26},
                                              {"n_head", 16},
                                              {"n_kv_head", 4},
                                              {"n_embd", 1152},
                                              {"head_dim", 256},
                                              {"n_hidden", 6912}}))
                          .resolved;
  EXPECT_EQ(small.at("n_layer"), 6);  // five of one kind and one of the other
  EXPECT_EQ(small.at("n_head"), 4);
  EXPECT_EQ(small.at("n_kv_head"), 2);
  EXPECT_EQ(small.at("head_dim"), 8);
  EXPECT_EQ(small.at("n_hidden"), 128);
}

TEST(ReducedModel, LeavesSmallModelsAsTheyAre) {
  const Component small = resolved({{"type", "llama"},
                                    {"vocab_size", 13},
                                    {"block_size", 24},
                                    {"n_layer", 1},
                                    {"n_head", 2},
                                    {"n_embd", 16}});
  EXPECT_EQ(*reduced_model(small).resolved, *small.resolved);
}

// A memory of 6 heads does not fit into a width of 32, and needs a model that it fits into.
TEST(ReducedModel, TakesNoSizesThatAMemoryRefuses) {
  const Json large = {{"type", "llama"},
                      {"vocab_size", 5000},
                      {"block_size", 24},
                      {"n_layer", 8},
                      {"n_head", 12},
                      {"n_embd", 96},
                      {"memory", {{"type", "delta_rule"}, {"heads", 6}}}};
  const Component small = reduced_model(resolved(large));
  EXPECT_EQ(small.resolved->at("n_layer"), 3);
  EXPECT_EQ(small.resolved->at("n_embd"), 96);
  EXPECT_NO_THROW(made(small));
}

// Every registered memory: a model of the usual sizes can be made small, and its verdict is the same.
class ReducedMemory : public ::testing::TestWithParam<testing::RegisteredCase> {};
TEST_P(ReducedMemory, HasTheSameVerdict) {
  Json json = testing::model_with_memory(GetParam().component);
  json["vocab_size"] = 300;
  json["n_layer"] = 5;
  const Component large = resolved(json);
  const auto live = made(large);
  const auto probe = probe_architecture(large, *live, DType::f32, MatmulPrecision::full);
  ASSERT_TRUE(probe);
  EXPECT_TRUE(probe->reduced);
  EXPECT_EQ(probe->report.causal(), !testing::leaks_by_definition(GetParam().component))
      << probe->report.text();
}
INSTANTIATE_TEST_SUITE_P(Registered, ReducedMemory,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace reverie
