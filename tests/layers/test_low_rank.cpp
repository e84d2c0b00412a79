// LoRA: a low-rank update beside a weight that stays, and a second network on borrowed weights.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "autograd/ops/reduce.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/pretrained/load.h"
#include "layers/transformer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

std::map<std::string, Variable> by_name(const Module& m) {
  const auto all = m.parameters();
  return {all.begin(), all.end()};
}
void redraw(Variable v, Generator& random) {
  Tensor target = v.tensor();
  target.copy_from(random.normal(target.shape(), 0, 0.5, target.dtype()));
}

class LowRankUpdate : public ::testing::TestWithParam<WeightLayout> {};
TEST_P(LowRankUpdate, AddsScaledBAToTheWeight) {
  constexpr int64_t kIn = 5, kOut = 4, kRank = 2, kRows = 3;
  constexpr double kScale = 1.5;
  Generator random(1);
  const Build build{random, DType::f64};
  Linear layer(kIn, kOut, {true, GetParam(), 0.5}, build);
  const Variable x(random.normal({kRows, kIn}, 0, 1, DType::f64));
  const auto before = layer.forward(x).tensor().to_vector();
  layer.add_low_rank_update(kRank, kScale, build);
  EXPECT_EQ(layer.forward(x).tensor().to_vector(), before) << "B begins at zero";

  auto parameters = by_name(layer);
  redraw(parameters.at("lora_b"), random);
  const auto a = parameters.at("lora_a").tensor().to_vector(),
             b = parameters.at("lora_b").tensor().to_vector(), in = x.tensor().to_vector(),
             after = layer.forward(x).tensor().to_vector(),
             active = layer.forward(x, Unary::silu).tensor().to_vector();
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t o = 0; o < kOut; ++o) {
      double wanted = before[size_t(row * kOut + o)];
      for (int64_t r = 0; r < kRank; ++r)
        for (int64_t i = 0; i < kIn; ++i)
          wanted += kScale * b[size_t(o * kRank + r)] * a[size_t(r * kIn + i)] *
                    in[size_t(row * kIn + i)];
      EXPECT_NEAR(after[size_t(row * kOut + o)], wanted, 1e-12);
      EXPECT_NEAR(active[size_t(row * kOut + o)], wanted / (1 + std::exp(-wanted)), 1e-12);
    }
  EXPECT_THROW(layer.add_low_rank_update(kRank, kScale, build), UserError);
}
INSTANTIATE_TEST_SUITE_P(Layouts, LowRankUpdate,
                         ::testing::Values(WeightLayout::out_in, WeightLayout::in_out),
                         [](const auto& info) {
                           return info.param == WeightLayout::out_in ? "out_in" : "in_out";
                         });

class BorrowedStack : public ::testing::TestWithParam<const char*> {
 protected:
  BorrowedStack()
      : loaded_(load_pretrained(testing::test_directory() + "/golden/pretrained/" +
                                std::string(GetParam()))),
        owner_(dynamic_cast<Transformer&>(*loaded_.model)),
        stack_(owner_.shape(), Build{random_, DType::f32, {}, false}) {
    stack_.train(false);
    stack_.borrow(owner_.blocks());
  }
  Variable states(const BlockStack& blocks) {
    CausalContext rows(6);
    return blocks.forward(Variable(x_), rows);
  }
  Generator random_{2};
  LoadedModel loaded_;
  Transformer& owner_;
  BlockStack stack_;
  Tensor x_ = random_.normal({2, 6, owner_.shape().features}, 0, 1, DType::f32);
};
TEST_P(BorrowedStack, ComputesWithTheOwnersWeightsAndTrainsItsUpdatesAlone) {
  const std::string before = owner_.weights_hash();
  EXPECT_TRUE(stack_.parameters().empty());
  EXPECT_EQ(states(stack_).tensor().to_vector(), states(owner_.blocks()).tensor().to_vector());

  add_low_rank_updates(stack_, 2, 4, Build{random_});
  const auto parameters = by_name(stack_);
  EXPECT_EQ(parameters.size() % 2, 0u);
  EXPECT_GE(parameters.size(), size_t(8 * owner_.shape().layers));
  EXPECT_EQ(states(stack_).tensor().to_vector(), states(owner_.blocks()).tensor().to_vector());
  for (const auto& [name, v] : parameters)
    if (name.ends_with("lora_b")) redraw(v, random_);
  EXPECT_NE(states(stack_).tensor().to_vector(), states(owner_.blocks()).tensor().to_vector());
  const Variable weights(random_.normal(x_.shape(), 0, 1, DType::f32));
  backward(sum_all(multiply(states(stack_), weights)));
  for (const auto& [name, v] : parameters) {
    ASSERT_TRUE(v.requires_grad() && v.grad().defined()) << name;
    double size = 0;
    for (const double g : v.grad().to_vector()) size += std::abs(g);
    EXPECT_GT(size, 0) << name;
  }
  for (const auto& [name, v] : owner_.parameters()) EXPECT_FALSE(v.grad().defined()) << name;
  EXPECT_EQ(owner_.weights_hash(), before);
}
INSTANTIATE_TEST_SUITE_P(Families, BorrowedStack,
                         ::testing::Values("gpt2", "llama", "qwen3", "gemma2", "gemma3"),
                         [](const auto& info) { return std::string(info.param); });

// A published model trained by low-rank updates alone: at first it is that model, and afterwards
// only the updates have moved.
TEST(PretrainedModel, MayTrainLowRankUpdatesAlone) {
  for (const char* family : {"gpt2", "llama", "gemma3"}) {
    const std::string path =
        testing::test_directory() + "/golden/pretrained/" + std::string(family);
    Generator random(4);
    const Build build{random, DType::f64};
    const ModelRegistry& models = ModelRegistry::instance();
    const auto make = [&](const Json& more) {
      Json config = {{"type", "pretrained"}, {"path", path}};
      config.update(more);
      return models.make(resolve_component(models, Config(config, "$.model")), build);
    };
    const auto whole = make(Json::object()), low_rank = make({{"rank", 2}, {"alpha", 4}});
    const Tensor tokens = Tensor::from<int32_t>({1, 6}, {3, 1, 4, 1, 5, 9});
    EXPECT_EQ(low_rank->logits(tokens).tensor().to_vector(),
              whole->logits(tokens).tensor().to_vector());
    EXPECT_TRUE(whole->trained());
    int64_t updates = 0;
    for (const auto& [name, parameter] : low_rank->parameters()) {
      const bool update = name.ends_with("lora_a") || name.ends_with("lora_b");
      EXPECT_EQ(parameter.requires_grad(), update) << name;
      updates += update;
      if (name.ends_with("lora_b")) redraw(parameter, random);
    }
    EXPECT_GT(updates, 0);
    backward(low_rank->loss(tokens, tokens, 1.0));
    for (const auto& [name, parameter] : low_rank->parameters())
      EXPECT_EQ(parameter.grad().defined(), parameter.requires_grad()) << name;
  }
}

TEST(Borrow, RefusesTrainedOwnersAndOtherShapes) {
  Generator random(3);
  const Build build{random};
  Linear owner(4, 3, {}, build), other(4, 2, {}, build), without_bias(4, 3, {.bias = false}, build);
  Linear borrower(4, 3, {}, build);
  EXPECT_THROW(borrower.borrow(owner), UserError) << "it is trained";
  for (Linear* m : {&owner, &other, &without_bias}) m->freeze();
  EXPECT_THROW(borrower.borrow(other), UserError);
  EXPECT_THROW(borrower.borrow(without_bias), UserError);
  EXPECT_EQ(borrower.parameters().size(), 2u) << "a refusal changes nothing";
  borrower.borrow(owner);
  EXPECT_TRUE(borrower.parameters().empty());
}

}  // namespace
}  // namespace reverie
