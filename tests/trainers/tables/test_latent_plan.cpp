// Tables of latents before anything is trained: what their runs take.

#include "trainers/tables/latents/latent_plan.h"

#include <gmock/gmock.h>

#include <regex>

#include "layers/linear.h"
#include "support/tiny_models.h"
#include "trainers/tables/latent_repros.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::LatentReproTest;

// A plan counts a coprocessor that begins with the base's weights beside a base that has none.
TEST(LatentPlan, ASourceIsPlannedWithoutTheBasesWeights) {
  Generator unused(1);
  const auto base = ModelRegistry::instance().make(
      testing::model_component(
          R"({"type": "llama", "vocab_size": 61, "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16})"),
      Build{unused, DType::f32, Device{}, false});
  base->freeze();
  const auto plan = [&](const std::string& latents) {
    ExperimentOptions run;
    run.model = testing::model_component(
        R"({"type": "augmented", "base": "x", "block_size": 16, "groups": 4, "ahead": 4, "latents": )" +
        latents + "}");
    return plan_latent_run(dynamic_cast<const Transformer&>(*base), run);
  };
  const auto pair_of = [](const std::string& a, const std::string& b) {
    return R"({"type": "several", "sources": [)" + a + ", " + b + "]}";
  };
  const std::string copied = R"({"type": "coprocessor", "count": 2})",
                    scratch = R"({"type": "coprocessor", "count": 2, "initial": "scratch"})",
                    lora = R"({"type": "coprocessor", "count": 2, "initial": "lora", "rank": 2})";
  const LatentPlan one = plan(copied), two = plan(pair_of(copied, copied));
  EXPECT_EQ(one.trainable_parameters, plan(scratch).trainable_parameters);
  EXPECT_EQ(one.step_flops, plan(scratch).step_flops);
  EXPECT_EQ(two.trainable_parameters, 2 * one.trainable_parameters);
  EXPECT_EQ(two.step_flops, plan(pair_of(scratch, scratch)).step_flops);
  EXPECT_LT(plan(lora).trainable_parameters, one.trainable_parameters);
}

TEST(LatentPlan, LowRankUpdatesOfTheBaseAreWhatIsTrained) {
  Generator random(1);
  const auto base = ModelRegistry::instance().make(
      testing::model_component(
          R"({"type": "llama", "vocab_size": 61, "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16})"),
      Build{random, DType::f32});
  base->freeze();
  const auto plan = [&](const std::string& more) {
    ExperimentOptions run;
    run.model = testing::model_component(R"({"type": "pretrained", "path": "x", "block_size": 16)" +
                                         more + "}");
    return plan_latent_run(dynamic_cast<const Transformer&>(*base), run);
  };
  const LatentPlan whole = plan(""), low_rank = plan(R"(, "rank": 2)");
  EXPECT_EQ(whole.trainable_parameters, base->parameter_count());
  add_low_rank_updates(*base, 2, 4, Build{random, DType::f32});
  int64_t trained = 0;
  for (const auto& [name, v] : base->parameters())
    trained += v.requires_grad() ? v.tensor().numel() : 0;
  EXPECT_EQ(low_rank.trainable_parameters, trained);
  EXPECT_EQ(low_rank.state_bytes, 3.0 * 4 * double(trained));
  EXPECT_LT(low_rank.step_flops, whole.step_flops);
  EXPECT_GT(low_rank.weight_bytes, whole.weight_bytes);
}

// A frozen base counts as its files will have it.
TEST_F(LatentReproTest, ABaseThatIsNotThereIsPlannedInTheTypeOfItsFiles) {
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny.erase("pretraining");
  tiny["base_model"] = directory_ / "absent";
  tiny["base_shape"] = parse_json(R"({"type": "llama", "vocab_size": 32768, "block_size": 32,
    "n_layer": 2, "n_head": 32, "n_embd": 4096, "n_hidden": 8192})");
  tiny["cells"] = {{"pause", {2}}};
  tiny["seeds"] = {1};
  struct Gibibytes {
    double state, frozen;
  };
  const auto planned = [&](const std::string& dtype, const std::string& device) {
    tiny["base_dtype"] = dtype;
    ReproOptions o = options(t);
    o.overrides = {"device=" + device};
    const std::string text = plan_table_text(o, CostOptions{2, "", 0.4});
    std::smatch state, frozen;
    EXPECT_TRUE(std::regex_search(text, state, std::regex("\npause +2 +1 .* ([0-9.]+)\n"))) << text;
    EXPECT_TRUE(std::regex_search(text, frozen, std::regex("\npause 2 +1 +([0-9.]+) "))) << text;
    return Gibibytes{std::stod(state[1]), std::stod(frozen[1])};
  };
  const Gibibytes wide = planned("f32", "cuda");
  EXPECT_GT(wide.frozen, 2);
  EXPECT_NEAR(wide.state, wide.frozen, 0.02);
  for (const auto& [dtype, device] : {std::pair{"bf16", "cuda"}, std::pair{"bf16", "cpu"},
                                      std::pair{"f16", "cuda"}, std::pair{"f16", "cpu"}}) {
    const Gibibytes narrow = planned(dtype, device);
    EXPECT_NEAR(narrow.frozen, wide.frozen / 2, 0.02) << dtype << " on " << device;
    EXPECT_NEAR(narrow.state, narrow.frozen, 0.02) << dtype << " on " << device;
  }

  tiny.erase("base_shape");
  EXPECT_THAT(refused(t), HasSubstr("\"base_dtype\" is for \"base_shape\", which is missing"));
}

}  // namespace
}  // namespace reverie
