// A base with a coprocessor beside it: without latents it is the base, to the bit; its weights
// stay; delays, shuffled latents and insertion points are what they say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/profile.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/pretrained/load.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

const std::string kBase = testing::test_directory() + "/golden/pretrained/llama";

std::unique_ptr<LanguageModel> augmented(Json more = Json::object()) {
  Json config = {
      {"type", "augmented"}, {"base", kBase}, {"latents", {{"type", "coprocessor"}, {"count", 3}}},
      {"block_size", 24},    {"groups", 4},   {"ahead", 5}};
  config.update(more);
  Generator random(3);
  const ModelRegistry& models = ModelRegistry::instance();
  return models.make(resolve_component(models, Config(config, "$.model")), Build{random});
}
AugmentedModel& as_augmented(LanguageModel& m) {
  return dynamic_cast<AugmentedModel&>(m);
}

Tensor some_tokens(int64_t batch, int64_t time) {
  Tensor tokens = Tensor::empty({batch, time}, DType::i32);
  for (int64_t i = 0; i < tokens.numel(); ++i)
    tokens.mutable_data<int32_t>()[i] = int32_t((i * i * 5 + i) % 61);
  return tokens;
}

class EverySource : public ::testing::TestWithParam<const char*> {};
TEST_P(EverySource, LeavesItsBaseAsItIsAndIsReachedInEveryPart) {
  const auto model = augmented({{"latents", parse_json(GetParam())}});
  const auto base = load_pretrained(kBase).model;
  AugmentedModel& m = as_augmented(*model);
  const Tensor tokens = some_tokens(2, 24);
  const auto same_logits = [&] {
    const NoGrad no_grad;
    model->train(false);
    return model->logits(tokens).tensor().to_vector() == base->logits(tokens).tensor().to_vector();
  };
  EXPECT_TRUE(same_logits()) << "without latents it is the base, to the bit";
  Generator random(5);
  for (const auto& [name, parameter] : model->parameters())
    if (name.ends_with(".lora_b")) {  // what lies behind zeros gets no gradient
      Tensor b = parameter.tensor();
      b.copy_from(random.normal(b.shape(), 0, 0.1, b.dtype()));
    }
  model->train(true);
  backward(model->loss(tokens, tokens, 0.1));
  EXPECT_TRUE(m.source().trained());
  for (const auto& [name, parameter] : model->parameters()) {
    if (!parameter.requires_grad()) {
      EXPECT_FALSE(parameter.grad().defined()) << name;
      continue;
    }
    EXPECT_TRUE(name.starts_with("latents.")) << name;
    ASSERT_TRUE(parameter.grad().defined()) << name;
    double sum = 0;
    for (const double g : parameter.grad().to_vector()) sum += std::abs(g);
    EXPECT_GT(sum, 0) << name;
  }
  EXPECT_EQ(m.base().weights_hash(), base->weights_hash());
  EXPECT_TRUE(same_logits());
}
INSTANTIATE_TEST_SUITE_P(
    Kinds, EverySource,
    ::testing::Values(
        R"({"type": "coprocessor", "count": 3})",
        R"({"type": "coprocessor", "count": 3, "initial": "scratch"})",
        R"({"type": "coprocessor", "count": 3, "initial": "lora", "rank": 2})",
        R"({"type": "coprocessor", "count": 3, "reads": "last_hidden"})",
        R"({"type": "coprocessor", "count": 3, "writes": "cache"})",
        R"({"type": "coprocessor", "count": 3, "writes": "cache", "initial": "lora", "rank": 2})",
        R"({"type": "coprocessor", "count": 3, "n_layer": 1})",
        R"({"type": "coprocessor", "count": 3, "n_layer": 3, "n_embd": 20, "initial": "scratch"})",
        R"({"type": "several", "sources": [{"type": "coprocessor", "count": 2},
            {"type": "coprocessor", "count": 1, "initial": "scratch"}]})",
        R"({"type": "soft_embeddings", "count": 3})"));

TEST(AugmentedModel, OnlyTheSourceIsTrained) {
  const auto model = augmented();
  const std::string before = as_augmented(*model).base().weights_hash();
  const Tensor tokens = some_tokens(2, 24);
  backward(model->loss(tokens, some_tokens(2, 24), 0.1));
  int64_t trained = 0;
  for (const auto& [name, parameter] : model->parameters()) {
    EXPECT_EQ(parameter.requires_grad(), name.starts_with("latents.")) << name;
    if (!parameter.requires_grad()) {
      EXPECT_FALSE(parameter.grad().defined()) << name;
      continue;
    }
    ASSERT_TRUE(parameter.grad().defined()) << name;
    double sum = 0;
    for (const double g : parameter.grad().to_vector()) sum += std::abs(g);
    EXPECT_GT(sum, 0) << name;
    ++trained;
  }
  EXPECT_GT(trained, 10);
  EXPECT_EQ(as_augmented(*model).base().weights_hash(), before);
}

TEST(AugmentedModel, ALoraCoprocessorLearnsItsUpdatesAlone) {
  const Json lora = {{"type", "coprocessor"}, {"count", 3}, {"initial", "lora"}, {"rank", 2}};
  const auto model = augmented({{"latents", lora}}), copied = augmented();
  AugmentedModel& m = as_augmented(*model);
  for (const auto& [name, parameter] : m.source().parameters())
    EXPECT_TRUE(name == "soft_tokens" || name.ends_with(".lora_a") || name.ends_with(".lora_b"))
        << name;
  EXPECT_LT(m.source().parameter_count(), as_augmented(*copied).source().parameter_count() / 2);
  // B is zero: the coprocessor begins as the base's copy does.
  model->train(false);
  copied->train(false);
  const Tensor tokens = some_tokens(2, 24), limits = Tensor::from<int32_t>({2, 2}, {3, 20, 5, 18});
  EXPECT_EQ(m.latents_for(tokens, limits).tensor().to_vector(),
            as_augmented(*copied).latents_for(tokens, limits).tensor().to_vector());
  const std::string before = m.base().weights_hash();
  backward(model->loss(tokens, tokens, 0.1));
  for (const auto& [name, parameter] : model->parameters())
    EXPECT_EQ(parameter.requires_grad(), !name.starts_with("base.")) << name;
  EXPECT_EQ(m.base().weights_hash(), before);
  EXPECT_THROW(augmented({{"latents", lora}, {"train_base", true}}), UserError);
}

TEST(AugmentedModel, LatentsInTheCacheTrainNothingBehindTheLastKeys) {
  const auto model =
      augmented({{"latents", {{"type", "coprocessor"}, {"count", 3}, {"writes", "cache"}}}});
  const std::string before = as_augmented(*model).base().weights_hash();
  backward(model->loss(some_tokens(2, 24), some_tokens(2, 24), 0.1));
  int64_t idle = 0, trained = 0;
  for (const auto& [name, parameter] : model->parameters()) {
    if (name.starts_with("base.")) continue;
    if (parameter.requires_grad()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      double sum = 0;
      for (const double g : parameter.grad().to_vector()) sum += std::abs(g);
      EXPECT_GT(sum, 0) << name;
      ++trained;
    } else {
      EXPECT_TRUE(name.find("layers.1.") != std::string::npos ||
                  name == "latents.model.norm.weight")
          << name;
      ++idle;
    }
  }
  // Of the last of 2 blocks, its first norm, key and value are read; not its other norm, query,
  // output and three matrices of the MLP.
  EXPECT_EQ(idle, 7);
  EXPECT_EQ(trained, 1 + 9 + 3);
  EXPECT_EQ(as_augmented(*model).base().weights_hash(), before);
}

TEST(AugmentedModel, AShallowCoprocessorBeginsWithTheLayersItReads) {
  const auto model = augmented({{"base", testing::test_directory() + "/golden/pretrained/gemma3"},
                                {"latents", {{"type", "coprocessor"}, {"n_layer", 2}}}});
  std::map<std::string, std::vector<double>> values;
  for (const auto& [name, parameter] : model->parameters())
    values[name] = parameter.tensor().to_vector();
  const std::string weight = ".self_attn.q_proj.weight";
  EXPECT_EQ(values.at("latents.model.layers.0" + weight),
            values.at("base.model.layers.1" + weight));
  EXPECT_EQ(values.at("latents.model.layers.1" + weight),
            values.at("base.model.layers.3" + weight));
  EXPECT_FALSE(values.contains("latents.model.layers.2" + weight));
}

TEST(AugmentedModel, SeveralSourcesFollowOneAnother) {
  const Json first = {{"type", "soft_embeddings"}, {"count", 2}},
             second = {{"type", "coprocessor"}, {"count", 3}};
  const auto model =
      augmented({{"latents", {{"type", "several"}, {"sources", Json::array({first, second})}}}});
  model->train(false);
  NoGrad no_grad;
  AugmentedModel& m = as_augmented(*model);
  EXPECT_EQ(m.source().count(), 5);
  const Tensor latents =
      m.latents_for(some_tokens(2, 24), Tensor::from<int32_t>({2, 2}, {3, 20, 5, 18})).tensor();
  ASSERT_EQ(latents.shape(), (Shape{2, 10, 16}));
  std::vector<double> rows;
  for (const auto& [name, parameter] : model->parameters())
    if (name == "latents.0.embeddings") rows = parameter.tensor().to_vector();
  // Every group begins with the first source's.
  for (const int64_t group : {0, 1})
    EXPECT_EQ(latents.slice(0, 1, 2).slice(1, 5 * group, 5 * group + 2).contiguous().to_vector(),
              rows);
}

TEST(AugmentedModel, RefusesCoprocessorsThatDoNotFitTheirBase) {
  const auto refusal = [](Json latents) -> std::string {
    latents["type"] = "coprocessor";
    try {
      augmented({{"latents", latents}});
    } catch (const UserError& e) {
      return e.what();
    }
    return "";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal({{"n_embd", 8}}), HasSubstr("wanted \"initial\": \"scratch\""));
  EXPECT_THAT(refusal({{"n_head", 3}, {"initial", "scratch"}}), HasSubstr("n_head"));
  EXPECT_THAT(refusal({{"n_embd", 8}, {"initial", "scratch"}, {"reads", "last_hidden"}}),
              HasSubstr("n_embd is 8"));
  EXPECT_THAT(refusal({{"n_layer", 1}, {"writes", "cache"}}), HasSubstr("n_layer is 1"));
  EXPECT_THROW(
      augmented({{"latents",
                  {{"type", "several"},
                   {"sources", Json::array({{{"type", "soft_embeddings"}},
                                            {{"type", "coprocessor"}, {"writes", "cache"}}})}}}}),
      UserError);
}

TEST(AugmentedModel, TrainedBasesHaveGradientsToo) {
  const auto model = augmented({{"train_base", true}});
  backward(model->loss(some_tokens(2, 24), some_tokens(2, 24), 0.1));
  for (const auto& [name, parameter] : model->parameters())
    EXPECT_TRUE(parameter.requires_grad() && parameter.grad().defined()) << name;
}

TEST(AugmentedModel, TheLossIsTheMeanOfTheAheadTokens) {
  const auto model = augmented();
  model->train(false);
  NoGrad no_grad;
  const Tensor tokens = some_tokens(2, 24);
  const double each = model->loss(tokens, tokens, 1.0 / 48).tensor().item();
  EXPECT_NEAR(model->loss(tokens, tokens, 1.0).tensor().item(), 48 * each, 1e-3);
  EXPECT_GT(each, 1);
  EXPECT_LT(each, 20);
}

// Products and attention, as the kernels count what they are given. The estimate takes a row of a
// group to see half of the text, whichever groups there are.
TEST(AugmentedModel, ForwardFlopsAreThoseOfItsKernels) {
  const auto model = augmented();
  model->train(false);
  const Tensor tokens = some_tokens(2, 24);
  const NoGrad no_grad;
  profile::start();
  model->loss(tokens, tokens, 0.1);
  double done = 0;
  for (const profile::Event& e : profile::stop())
    if (e.kind == profile::Kind::kernel &&
        (e.name.starts_with("matmul") || e.name.find("attention") != std::string_view::npos))
      done += e.work.flops;
  EXPECT_NEAR(model->forward_flops_per_token(24) * 48 / done, 1, 0.02);
}

TEST(AugmentedModel, LatentsOfOtherTextsMatter) {
  const auto model = augmented();
  model->train(false);
  NoGrad no_grad;
  AugmentedModel& m = as_augmented(*model);
  const Tensor tokens = some_tokens(2, 24), limits = Tensor::from<int32_t>({2, 2}, {3, 20, 5, 18});
  const InsertionPoints points = insertion_points(tokens, tokens, limits, 5);
  const Tensor own = m.latents_for(tokens, limits).tensor();
  const auto hidden = [&](const Variable& latents) {
    return m.ahead_hidden(tokens, points, latents).tensor().to_vector();
  };
  EXPECT_EQ(hidden({}), hidden(Variable(own.clone())));
  Tensor swapped = own.clone();
  swapped.slice(0, 0, 1).copy_from(own.slice(0, 1, 2));
  swapped.slice(0, 1, 2).copy_from(own.slice(0, 0, 1));
  EXPECT_NE(hidden({}), hidden(Variable(swapped)));
}

TEST(AugmentedModel, DelayedLatentsComeFromAShorterText) {
  const auto late = augmented({{"delay", 4}}), prompt = augmented();
  late->train(false);
  prompt->train(false);
  NoGrad no_grad;
  const Tensor tokens = some_tokens(1, 24), limits = Tensor::from<int32_t>({1, 1}, {12}),
               earlier = Tensor::from<int32_t>({1, 1}, {8});
  const InsertionPoints points = insertion_points(tokens, tokens, limits, 5);
  const Variable from_earlier = as_augmented(*prompt).latents_for(tokens, earlier);
  EXPECT_EQ(as_augmented(*late).ahead_hidden(tokens, points).tensor().to_vector(),
            as_augmented(*prompt).ahead_hidden(tokens, points, from_earlier).tensor().to_vector());
  EXPECT_NE(as_augmented(*late).ahead_hidden(tokens, points).tensor().to_vector(),
            as_augmented(*prompt).ahead_hidden(tokens, points).tensor().to_vector());
}

TEST(AugmentedModel, ADelayIsNeverClamped) {
  const auto late = augmented({{"delay", 4}});
  NoGrad no_grad;
  AugmentedModel& m = as_augmented(*late);
  const Tensor tokens = some_tokens(1, 24);
  EXPECT_NO_THROW(m.latents_for(tokens, Tensor::from<int32_t>({1, 2}, {5, 9})));
  EXPECT_THROW(m.latents_for(tokens, Tensor::from<int32_t>({1, 2}, {4, 9})), UserError);
}

// Latents of zero, and the last token once more: the variant begins near the base.
TEST(Coprocessor, TheLastLatentMayStandWhereTheLastTokenStood) {
  const auto model = augmented(
      {{"latents", {{"type", "coprocessor"}, {"count", 3}, {"gain", "zero"}, {"last", "token"}}}});
  NoGrad no_grad;
  AugmentedModel& m = as_augmented(*model);
  const Tensor tokens = some_tokens(2, 24), limits = Tensor::from<int32_t>({2, 2}, {3, 20, 5, 18});
  const Tensor latents = m.latents_for(tokens, limits).tensor();
  const Tensor rows = m.base().token_rows(tokens).tensor();
  ASSERT_EQ(latents.shape(), (Shape{2, 6, rows.size(2)}));
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t g = 0; g < 2; ++g)
      for (int64_t j = 0; j < 3; ++j) {
        const auto got = latents.select(0, b).select(0, g * 3 + j).contiguous().to_vector();
        const int64_t last = limits.data<int32_t>()[b * 2 + g] - 1;
        const auto wanted = j == 2 ? rows.select(0, b).select(0, last).contiguous().to_vector()
                                   : std::vector<double>(got.size(), 0.0);
        EXPECT_EQ(got, wanted) << b << g << j;
      }
}

TEST(Coprocessor, ItsGainMayBeginWhereLatentsAreAsLargeAsEmbeddings) {
  const auto size = [](const char* gain) {
    const auto model =
        augmented({{"latents", {{"type", "coprocessor"}, {"count", 3}, {"gain", gain}}}});
    NoGrad no_grad;
    AugmentedModel& m = as_augmented(*model);
    const auto mean_square = [](const Tensor& t) {
      double sum = 0;
      for (const double x : t.to_vector()) sum += x * x;
      return sum / double(t.numel());
    };
    const Tensor tokens = some_tokens(2, 24);
    return std::sqrt(
        mean_square(m.latents_for(tokens, Tensor::full({2, 4}, 12, DType::i32)).tensor()) /
        mean_square(m.base().token_rows(tokens).tensor()));
  };
  EXPECT_NEAR(size("embeddings"), 1, 0.25);
  EXPECT_GT(std::abs(std::log(size("none"))), std::log(1.5)) << "raw states are of another size";
  EXPECT_THROW(
      augmented({{"latents", {{"type", "coprocessor"}, {"writes", "cache"}, {"gain", "zero"}}}}),
      UserError);
}

TEST(InsertionPoints, TakeWhatFollowsTheLimit) {
  const Tensor tokens = Tensor::from<int32_t>({1, 6}, {10, 11, 12, 13, 14, 15}),
               targets = Tensor::from<int32_t>({1, 6}, {11, 12, 13, 14, 15, 16});
  const InsertionPoints points =
      insertion_points(tokens, targets, Tensor::from<int32_t>({1, 2}, {1, 4}), 3);
  EXPECT_EQ(points.ahead.to_vector(), (std::vector<double>{11, 12, 14, 15}));
  EXPECT_EQ(points.targets.to_vector(), (std::vector<double>{11, 12, 13, 14, 15, 16}));
  for (const int32_t outside : {0, 5})
    EXPECT_THROW(insertion_points(tokens, targets, Tensor::from<int32_t>({1, 1}, {outside}), 3),
                 UserError)
        << outside;
}

TEST(AugmentedModel, RefusesWhatDoesNotFit) {
  EXPECT_THROW(augmented({{"block_size", 60}}), UserError) << "latents reach beyond the base";
  EXPECT_THROW(augmented({{"ahead", 25}}), UserError);
}

}  // namespace
}  // namespace reverie
