// What latents change, by position: against losses of single forwards, and what must be nothing.

#include "trainers/evaluation/latent_effect.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "support/temporary_directory.h"

namespace reverie {
namespace {

class LatentEffectTest : public ::testing::Test {
 protected:
  LatentEffectTest() {
    TokenFileWriter writer(directory / "text.tok", 61, std::string(32, '0'), std::string(32, '0'));
    std::vector<int32_t> tokens;
    for (int i = 0; i < 200; ++i) tokens.push_back((i * i * 3 + i / 7) % 61);
    writer.append(tokens);
    writer.finish();
  }
  std::unique_ptr<LanguageModel> make(const Json& latents) {
    const Json config = {{"type", "augmented"},
                         {"base", REVERIE_TEST_DIR "/golden/pretrained/llama"},
                         {"latents", latents},
                         {"block_size", 24},
                         {"ahead", 4}};
    Generator random(7);
    const ModelRegistry& models = ModelRegistry::instance();
    return models.make(resolve_component(models, Config(config, "$.model")),
                       Build{random, DType::f64});
  }
  EvaluationWindows windows() { return {open_tokens(directory / "text.tok"), 4, 24, 8}; }

  testing::TemporaryDirectory directory;
};

TEST_F(LatentEffectTest, TheBaseIsScoredAsItIs) {
  const auto model = make({{"type", "coprocessor"}, {"count", 2}});
  auto& augmented = dynamic_cast<AugmentedModel&>(*model);
  const LatentEffect effect =
      measure_latent_effect(augmented, windows(), {.positions = 3, .groups = 22, .resamples = 20});
  EXPECT_EQ(effect.texts, 8);
  EXPECT_EQ(effect.insertions, 8 * 22);
  // 22 insertion points, after every token that has three ahead: position 1 is every row's own
  // loss.
  double sum = 0;
  NoGrad no_grad;
  for (int64_t i = 0; i < windows().batch_count(); ++i) {
    const Batch batch = windows().batch(i);
    const Tensor tokens = batch.tokens.slice(1, 0, 22).contiguous(),
                 targets = batch.targets.slice(1, 0, 22).contiguous();
    sum += augmented.base().loss(tokens, targets, 1.0).tensor().item();
  }
  EXPECT_NEAR(effect.by_position[0].base_nll, sum / (8 * 22), 1e-9);
  for (const auto& p : effect.by_position) {
    EXPECT_NEAR(p.change_percent, 100 * (std::exp(p.nll - p.base_nll) - 1), 1e-9);
    EXPECT_LE(p.low, p.change_percent);
    EXPECT_GE(p.high, p.change_percent);
    EXPECT_LT(p.low, p.high);
  }
  EXPECT_EQ(effect.by_position[2].position, 3);
  EXPECT_EQ(effect.all.position, 0);
}

TEST_F(LatentEffectTest, ShufflingChangesOnlyLatentsThatReadTheText) {
  const auto reading = make({{"type", "coprocessor"}, {"count", 2}}),
             blind = make({{"type", "soft_embeddings"}, {"count", 2}});
  const auto nll = [&](LanguageModel& model, bool shuffled) {
    return measure_latent_effect(
               dynamic_cast<AugmentedModel&>(model), windows(),
               {.positions = 3, .groups = 5, .resamples = 0, .shuffled = shuffled})
        .all.nll;
  };
  EXPECT_NEAR(nll(*blind, true), nll(*blind, false), 1e-12);
  EXPECT_GT(std::abs(nll(*reading, true) - nll(*reading, false)), 1e-6);
}

TEST_F(LatentEffectTest, TextsThatAreTooShortAreRefused) {
  const auto model = make({{"type", "coprocessor"}, {"count", 2}});
  EXPECT_THROW(measure_latent_effect(dynamic_cast<AugmentedModel&>(*model), windows(),
                                     {.positions = 25, .groups = 2}),
               UserError);
}

}  // namespace
}  // namespace reverie
