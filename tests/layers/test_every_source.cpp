// Every registered source of latents, with every choice of its options, without anybody listing
// it: gradients, weights that are saved and loaded. (The gate and resumed runs: tests/trainers.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/ops/elementwise.h"
#include "layers/model_checks.h"
#include "support/registered_components.h"

namespace reverie {
namespace {

using testing::build_model;
using testing::fill_zero_parameters;
using testing::gradient_error;
using ::testing::HasSubstr;
using testing::missing_options;
using testing::model_with_latents;
using testing::random_tokens;
using testing::RegisteredCase;

class EveryRegisteredSource : public ::testing::TestWithParam<RegisteredCase> {
 protected:
  void SetUp() override {
    config_ = model_with_latents(GetParam().component);
    ASSERT_EQ(missing_options(GetParam(), config_), "");
  }
  std::unique_ptr<LanguageModel> model(DType dtype, uint64_t seed = 3) const {
    auto made = build_model(config_, dtype, seed);
    fill_zero_parameters(*made, seed);
    return made;
  }
  Json config_;
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryRegisteredSource,
                         ::testing::ValuesIn(testing::registered_sources()),
                         [](const auto& info) { return info.param.name; });

// The training loss at insertion points that are the same every time, the source's own included.
Variable training_loss(LanguageModel& model) {
  default_generator() = Generator(99);
  const Tensor tokens = random_tokens(2, 24, model.vocabulary_size(), 5),
               targets = random_tokens(2, 24, model.vocabulary_size(), 6);
  model.train(true);
  return model.loss(tokens, targets, 0.05);
}

TEST_P(EveryRegisteredSource, GradientsAreCentralDifferences) {
  const auto m = model(DType::f64);
  EXPECT_EQ(gradient_error(*m, [&] { return training_loss(*m); }), "");
}

// The state that a checkpoint holds is the whole source.
TEST_P(EveryRegisteredSource, WeightsGoIntoAnotherModelToTheBit) {
  const auto from = model(DType::f32, 3), to = model(DType::f32, 4);
  to->load(from->state());
  NoGrad guard;
  const Tensor tokens = random_tokens(2, 24, from->vocabulary_size());
  const Tensor limits = Tensor::from<int32_t>({2, 2}, {3, 17, 5, 18});
  const auto latents = [&](LanguageModel& m) {
    m.train(false);
    return dynamic_cast<AugmentedModel&>(m).latents_for(tokens, limits).tensor();
  };
  const Tensor wanted = latents(*from);
  EXPECT_TRUE(bit_identical(latents(*to), wanted));
  EXPECT_TRUE(bit_identical(latents(*from), wanted)) << "it remembers what it was asked before";
}

TEST(EveryRegisteredSource, IsSeenWithEveryChoice) {
  std::vector<std::string> names;
  for (const RegisteredCase& c : testing::registered_sources()) names.push_back(c.name);
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"coprocessor", "coprocessor_lora", "coprocessor_last_hidden",
                                       "gist_nothing", "icae", "several", "continuous_thoughts"}));
}

// ---- each check can fail ------------------------------------------------------------------------

struct BrokenOptions final : Fieldset {
  void fields(Fields&) override {}
};
class WrongGradient final : public LatentSource {
 public:
  WrongGradient(const BrokenOptions&, const LatentSite& site) {
    weight_ = parameter("weight", site.base.typical_rows(1, site.build.random));
  }
  int64_t count() const override { return 1; }
  Variable latents(const TextView& view) override {
    return for_each_group(multiply(weight_, weight_.detach()), view.limits());
  }
  double flops_per_group(int64_t) const override { return 0; }

 private:
  Variable weight_;
};
const bool registered = LatentRegistry::instance().add<WrongGradient, BrokenOptions>(
    "test_wrong_gradient", "its gradient is half of what it should be");

TEST(EveryRegisteredSourceCheck, FindsAWrongGradient) {
  const auto m = build_model(model_with_latents({{"type", "test_wrong_gradient"}}), DType::f64, 3);
  EXPECT_THAT(gradient_error(*m, [&] { return training_loss(*m); }),
              HasSubstr("latents.weight[0]"));
}
TEST(EveryRegisteredSourceCheck, SaysWhereMissingOptionsAreGiven) {
  const RegisteredCase c{"several", {{"type", "several"}}};
  EXPECT_THAT(missing_options(c, model_with_latents(c.component)),
              ::testing::AllOf(HasSubstr("registered_components.h"), HasSubstr("sources")));
}

}  // namespace
}  // namespace reverie
