// Every registered memory module, in every mode, without anybody listing it: gradients, decoding,
// saved state. (The gate and resumed runs: tests/trainers.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "layers/model_checks.h"
#include "support/registered_components.h"

namespace reverie {
namespace {

using testing::decoding_error;
using testing::gradient_error;
using ::testing::HasSubstr;
using testing::missing_options;
using testing::model_with_memory;
using testing::RegisteredCase;
using testing::saved_state_error;
using testing::whole_loss;

std::unique_ptr<LanguageModel> model_with(const Json& memory, DType dtype = DType::f64) {
  return testing::make_model(model_with_memory(memory).dump(), dtype);
}

class EveryMemory : public ::testing::TestWithParam<RegisteredCase> {
 protected:
  void SetUp() override {
    const RegisteredCase& c = GetParam();
    ASSERT_EQ(missing_options(c, model_with_memory(c.component)), "");
  }
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryMemory,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(EveryMemory, GradientsAreCentralDifferences) {
  const auto model = model_with(GetParam().component);
  EXPECT_EQ(gradient_error(*model, testing::differentiable_loss(*model)), "");
}
TEST_P(EveryMemory, InPiecesEqualsTheWhole) {
  EXPECT_EQ(decoding_error(*model_with(GetParam().component)), "");
}
TEST_P(EveryMemory, ASavedStateGoesOnToTheBit) {
  const auto model = model_with(GetParam().component, DType::f32),
             another = testing::build_model(model_with_memory(GetParam().component), DType::f32, 3);
  EXPECT_EQ(saved_state_error(*model, *another), "");
}
TEST_P(EveryMemory, IsPartOfTheModel) {
  const auto with = model_with(GetParam().component), without = model_with(nullptr);
  const Tensor tokens = testing::random_tokens(2, 19, 13);
  NoGrad guard;
  // A module of the first weights is another matter: these are ordinary ones.
  EXPECT_GT(
      testing::largest_difference(with->logits(tokens).tensor(), without->logits(tokens).tensor()),
      1e-6);
}

TEST(EveryMemory, IsSeenInEveryModeOfTheImm) {
  std::vector<std::string> names;
  for (const RegisteredCase& c : testing::registered_memories()) names.push_back(c.name);
  EXPECT_THAT(names, ::testing::IsSupersetOf({"imm", "imm_as_published", "imm_segment",
                                              "imm_slots_carry_state", "imm_carry_state"}));
}

// The attention cache cuts its gradient; finite differences would see past the cut.
TEST(EveryMemory, OnlyACutGradientIsNotSeenThrough) {
  const auto cut = model_with({{"type", "attention_cache"}, {"heads", 2}, {"carry_state", true}}),
             open = model_with({{"type", "delta_rule"}, {"heads", 2}, {"carry_state", true}});
  EXPECT_THAT(gradient_error(*cut, [&] { return whole_loss(*cut); }),
              HasSubstr("central difference"));
  EXPECT_EQ(gradient_error(*open, [&] { return whole_loss(*open); }), "");
}

// ---- each check can fail ------------------------------------------------------------------------

struct BrokenOptions final : Fieldset {
  std::string fault;
  int64_t wanted = 0;  // must be given
  void fields(Fields& f) override {
    f.text("fault", fault, {}, "what is wrong with it");
    f.integer("wanted", wanted, {1, 9}, "no default");
  }
};
class BrokenMemory final : public MemoryModule {
 public:
  BrokenMemory(const BrokenOptions& o, const MemorySite& site) : fault_(o.fault) {
    weight_ = parameter("weight", site.build.weights({site.features}, 0.5));
  }
  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;
    const auto weighted = [&](const Variable& rows) { return add(rows, multiply(x, weight_)); };
    if (fault_ == "gradient") return weighted(x.detach());
    if (fault_ == "forgets") return add(weighted(x), mean_of_all(x));
    if (fault_ == "hidden_state") return scale(weighted(x), 1 + 0.1 * double(calls_++ / 2));
    state.counters["calls"] += 1;
    return weighted(x);
  }
  bool incremental() const override { return true; }

 private:
  static Variable mean_of_all(const Variable& x) {
    return expand(reshape(mean(x, 1), {x.size(0), 1, x.size(2)}), 1, x.size(1));
  }
  std::string fault_;
  Variable weight_;
  int64_t calls_ = 0;
};
REVERIE_REGISTER_MEMORY("test_broken", BrokenMemory, BrokenOptions, "fails one check");

Json broken(const char* fault) {
  return {{"type", "test_broken"}, {"fault", fault}, {"wanted", 1}};
}

TEST(EveryMemoryCheck, FindsAWrongGradient) {
  const auto wrong = model_with(broken("gradient")), right = model_with(broken(""));
  EXPECT_THAT(gradient_error(*wrong, [&] { return whole_loss(*wrong); }),
              HasSubstr("central difference"));
  EXPECT_EQ(gradient_error(*right, [&] { return whole_loss(*right); }), "");
}
TEST(EveryMemoryCheck, FindsADecoderThatForgets) {
  EXPECT_THAT(decoding_error(*model_with(broken("forgets"))), HasSubstr("logits differ"));
  EXPECT_EQ(decoding_error(*model_with(broken(""))), "");
}
TEST(EveryMemoryCheck, FindsStateThatIsNotSaved) {
  const auto error = [](const char* fault) {
    return saved_state_error(*model_with(broken(fault)), *model_with(broken(fault)));
  };
  EXPECT_THAT(error("hidden_state"), HasSubstr("after a saved state"));
  EXPECT_EQ(error(""), "");
}
TEST(EveryMemoryCheck, SaysWhereMissingOptionsAreGiven) {
  const RegisteredCase c{"test_broken", {{"type", "test_broken"}}};
  EXPECT_THAT(missing_options(c, model_with_memory(c.component)),
              ::testing::AllOf(HasSubstr("registered_components.h"), HasSubstr("wanted")));
}

}  // namespace
}  // namespace reverie
