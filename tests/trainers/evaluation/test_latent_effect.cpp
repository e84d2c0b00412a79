// What latents change, by position: against losses of single forwards, and what must be nothing.

#include "trainers/evaluation/latent_effect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/evaluation/latent_measurement.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;

class LatentEffectTest : public ::testing::Test {
 protected:
  LatentEffectTest() {
    TokenFileWriter writer(directory / "text.tok", 61, std::string(32, '0'), std::string(32, '0'));
    std::vector<int32_t> tokens;
    for (int i = 0; i < 200; ++i) tokens.push_back((i * i * 3 + i / 7) % 61);
    writer.append(tokens);
    writer.finish();
  }
  std::unique_ptr<LanguageModel> make(const Json& latents, const Json& options = Json::object()) {
    Json config = {{"type", "augmented"},
                   {"base", testing::test_directory() + "/golden/pretrained/llama"},
                   {"latents", latents},
                   {"block_size", 24},
                   {"ahead", 4}};
    config.update(options);
    return build(config);
  }
  // Without latents; the memory may be null.
  std::unique_ptr<LanguageModel> make_plain(const Json& memory) {
    return build({{"type", "llama"},
                  {"vocab_size", 61},
                  {"block_size", 24},
                  {"n_layer", 1},
                  {"n_head", 2},
                  {"n_embd", 8},
                  {"memory", memory}});
  }
  static std::unique_ptr<LanguageModel> build(const Json& config) {
    Generator random(7);
    const ModelRegistry& models = ModelRegistry::instance();
    return models.make(resolve_component(models, Config(config, "$.model")),
                       Build{random, DType::f64});
  }
  // The verdict of an audited measurement.
  Verdict audited(LanguageModel& model, LanguageModel& base, bool shuffled = false) {
    ForwardAudit audit = ForwardAudit::once(3);
    measure_position_losses(model, base, windows(),
                            {.rule = {.points = 5, .positions = 3}, .shuffled = shuffled}, &audit);
    return audit.verdict();
  }
  EvaluationWindows windows() { return {open_tokens(directory / "text.tok"), 4, 24, 8}; }

  testing::TemporaryDirectory directory;
};

TEST_F(LatentEffectTest, TheBaseIsScoredAsItIs) {
  const auto model = make({{"type", "coprocessor"}, {"count", 2}});
  auto& augmented = dynamic_cast<AugmentedModel&>(*model);
  const LatentEffect effect = measure_latent_effect(
      augmented, windows(), {.rule = {.points = 0, .positions = 3}, .resamples = 20});
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

TEST_F(LatentEffectTest, BaseAndEveryModelStandBehindTheSameInsertions) {
  const LatentEffectOptions options{.rule = {.points = 5, .positions = 3}};
  const auto coprocessor = make({{"type", "coprocessor"}, {"count", 2}}),
             soft = make({{"type", "soft_embeddings"}, {"count", 4}});
  auto& base = dynamic_cast<AugmentedModel&>(*coprocessor).base();
  const PositionLosses with =
                           measure_position_losses(*coprocessor, *coprocessor, windows(), options),
                       other = measure_position_losses(*soft, *soft, windows(), options),
                       none = measure_position_losses(base, *coprocessor, windows(), options);
  ASSERT_EQ(with.texts.size(), 8u);
  for (size_t t = 0; t < 8; ++t) {
    EXPECT_EQ(with.texts[t].offsets, other.texts[t].offsets);
    EXPECT_EQ(with.texts[t].offsets, none.texts[t].offsets);
    EXPECT_EQ(with.texts[t].base, other.texts[t].base);
    EXPECT_EQ(none.texts[t].base, none.texts[t].model);
    // By hand: position 2 after the first insertion, from its true prefix.
    NoGrad no_grad;
    const Batch batch = windows().batch(int64_t(t) / 4);
    const int64_t row = int64_t(t) % 4, last = with.texts[t].offsets[0];
    const Tensor prefix = batch.tokens.slice(0, row, row + 1).slice(1, 0, last + 1).contiguous();
    Tensor target = Tensor::full({1, last + 1}, -1, DType::i32);
    target.mutable_data<int32_t>()[last] = batch.targets.data<int32_t>()[row * 24 + last];
    EXPECT_NEAR(with.texts[t].base[1], base.loss(prefix, target, 1.0).tensor().item(), 1e-6);
  }
  EXPECT_EQ(with.insertions(), 8 * 5);
}

// Texts that all change alike, insertions that do not: only drawing insertions anew shows it.
TEST_F(LatentEffectTest, TheIntervalIsOverInsertionsToo) {
  PositionLosses losses;
  losses.positions = 1;
  for (int text = 0; text < 6; ++text)
    losses.texts.push_back({{1, 2, 3, 4}, {1, 1, 1, 1}, {0.8, 1.2, 0.9, 1.1}});
  const PositionLosses* run = &losses;
  const LatentEffect effect = latent_effect({&run, 1}, {.resamples = 400});
  EXPECT_NEAR(effect.all.change_percent, 0, 1e-9);
  // Standard error of a mean of 24 with deviation 0.158: 3.2 %.
  EXPECT_NEAR(effect.all.low, -6.3, 1.5);
  EXPECT_NEAR(effect.all.high, 6.3, 1.5);
}

TEST_F(LatentEffectTest, PositionOneIsSplitByOffset) {
  PositionLosses losses;
  losses.positions = 2;
  losses.texts.push_back({{1, 5, 70}, {1, 1, 1, 1, 1, 1}, {2, 9, 0.5, 9, 1, 9}});
  losses.texts.push_back({{1, 15, 20}, {1, 1, 1, 1, 1, 1}, {2, 9, 1.5, 9, 1, 9}});
  const PositionLosses* run = &losses;
  const auto split = latent_effect({&run, 1}, {.resamples = 0}).first_by_offset;
  ASSERT_EQ(split.size(), 4u);
  EXPECT_EQ(split[0].insertions, 2);
  EXPECT_NEAR(split[0].change_percent, 100 * (std::exp(1) - 1), 1e-9);
  EXPECT_EQ(split[1].last, 15);
  EXPECT_NEAR(split[1].change_percent, 0, 1e-9);
  EXPECT_EQ(split[2].first, 16);
  EXPECT_EQ(split[2].last, 20);
  EXPECT_EQ(split[3].insertions, 1);
}

TEST_F(LatentEffectTest, MissingTargetsSurviveTheirFile) {
  PositionLosses losses;
  losses.positions = 2;
  losses.rule = "a rule";
  losses.texts.push_back({{4}, {1.25, NAN}, {1.5, NAN}});
  const PositionLosses back = PositionLosses::from_json(Json::parse(losses.json().dump()));
  EXPECT_EQ(back.json(), losses.json());
  EXPECT_TRUE(std::isnan(back.texts[0].model[1]));
  EXPECT_EQ(back.rule, "a rule");
  const PositionLosses* run = &back;
  EXPECT_NEAR(latent_effect({&run, 1}, {.resamples = 0}).all.nll, 1.5, 1e-12);
}

TEST_F(LatentEffectTest, ShufflingChangesOnlyLatentsThatReadTheText) {
  const auto reading = make({{"type", "coprocessor"}, {"count", 2}}),
             blind = make({{"type", "soft_embeddings"}, {"count", 2}});
  const auto nll = [&](LanguageModel& model, bool shuffled) {
    return measure_latent_effect(
               dynamic_cast<AugmentedModel&>(model), windows(),
               {.rule = {.points = 5, .positions = 3}, .resamples = 0, .shuffled = shuffled})
        .all.nll;
  };
  EXPECT_NEAR(nll(*blind, true), nll(*blind, false), 1e-12);
  EXPECT_GT(std::abs(nll(*reading, true) - nll(*reading, false)), 1e-6);
}

TEST_F(LatentEffectTest, TextsThatAreTooShortAreRefused) {
  const auto model = make({{"type", "coprocessor"}, {"count", 2}});
  EXPECT_THROW(measure_latent_effect(dynamic_cast<AugmentedModel&>(*model), windows(),
                                     {.rule = {.points = 2, .positions = 25}}),
               UserError);
}

TEST_F(LatentEffectTest, ADelayLeavesItsFirstOffsetsOutAndClampsNothing) {
  const auto late = make({{"type", "coprocessor"}, {"count", 2}}, {{"delay", 3}});
  auto& model = dynamic_cast<AugmentedModel&>(*late);
  EXPECT_EQ(InsertionRule::of(model).first, 4);
  EXPECT_THROW(measure_latent_effect(model, windows(), {.rule = {.points = 0, .positions = 3}}),
               UserError);
  const PositionLosses losses = measure_position_losses(
      model, model, windows(), {.rule = {.points = 0, .positions = 3, .first = 4}});
  EXPECT_EQ(losses.texts[0].offsets.front(), 4);
  EXPECT_EQ(losses.texts[0].offsets.size(), 19u);
}

TEST_F(LatentEffectTest, LossesThatAreNotFiniteAreNoResult) {
  const auto model = make({{"type", "soft_embeddings"}, {"count", 2}});
  auto& augmented = dynamic_cast<AugmentedModel&>(*model);
  for (auto& [name, parameter] : augmented.source().parameters()) {
    Tensor values = parameter.tensor();
    values.mutable_data<double>()[0] = NAN;
  }
  EXPECT_THROW(measure_latent_effect(augmented, windows(), {.rule = {.points = 2, .positions = 3}}),
               DivergedError);
  EXPECT_THROW(evaluate_augmented(augmented, windows(), InsertionRule::of(augmented)),
               DivergedError);
}

// ---- audits -------------------------------------------------------------------------------------

Json latent_attack(const char* kind) {
  return {{"type", "test_latent_attack"}, {"kind", kind}};
}

TEST_F(LatentEffectTest, AnHonestMeasurementIsAuditedAndCausal) {
  const auto coprocessor = make({{"type", "coprocessor"}, {"count", 2}}),
             cache = make({{"type", "coprocessor"}, {"count", 2}, {"writes", "cache"}}),
             late = make({{"type", "coprocessor"}, {"count", 2}}, {{"delay", 2}});
  const auto plain = make_plain(nullptr);
  auto& base = dynamic_cast<AugmentedModel&>(*coprocessor).base();
  for (LanguageModel* model : {coprocessor.get(), cache.get()})
    for (const bool shuffled : {false, true}) {
      const Verdict verdict = audited(*model, base, shuffled);
      EXPECT_TRUE(verdict.causal()) << verdict.line();
      EXPECT_EQ(verdict.probed().size(), 2u) << "of the base, and behind latents";
      EXPECT_EQ(verdict.steps(), std::vector<int64_t>{3});
    }
  ForwardAudit audit = ForwardAudit::once(3);
  measure_latents(*late, base, windows(), {.rule = {.points = 5, .positions = 3, .first = 3}}, true,
                  &audit);
  EXPECT_TRUE(audit.verdict().causal()) << audit.verdict().line();
  const Verdict without_latents = audited(*plain, *make_plain(nullptr));
  EXPECT_TRUE(without_latents.causal()) << without_latents.line();
}

// Five groups in a text are the measurement's; in separate forwards there is one.
TEST_F(LatentEffectTest, ASourceThatReadsAheadAtTheMeasurementsSizesIsFound) {
  const auto plain = make_plain(nullptr);
  const auto model = make(latent_attack("many_groups"));
  EXPECT_TRUE(audited(*model, *plain).leaks());
  const Verdict shuffled = audited(*model, *plain, true);
  EXPECT_TRUE(shuffled.leaks());
  EXPECT_THAT(shuffled.line(), HasSubstr("latents of other texts"));
}

// The last of two batches has three texts.
TEST_F(LatentEffectTest, TheLastBatchIsAudited) {
  const auto plain = make_plain(nullptr);
  const auto model = make(latent_attack("three_texts"));
  const EvaluationWindows seven(open_tokens(directory / "text.tok"), 4, 24, 7);
  ForwardAudit audit = ForwardAudit::once(3);
  measure_position_losses(*model, *plain, seven, {.rule = {.points = 5, .positions = 3}}, &audit);
  EXPECT_TRUE(audit.verdict().leaks());
  EXPECT_THAT(audit.verdict().line(), HasSubstr("3 texts of 24 tokens, 5 groups"));
}

TEST_F(LatentEffectTest, AModelWithoutLatentsAndTheBaseAreAudited) {
  const auto plain = make_plain(nullptr),
             leaks = make_plain({{"type", "test_attack"}, {"kind", "batch_of_four"}});
  EXPECT_TRUE(audited(*leaks, *plain).leaks());
  EXPECT_TRUE(audited(*plain, *leaks).leaks());
}

// ---- the figure of one model by itself ----------------------------------------------------------
TEST_F(LatentEffectTest, TheAugmentedLossDoesNotMoveWithTheGroupsOfTraining) {
  std::optional<AugmentedResult> first;
  for (const int64_t groups : {1, 2, 8, 16}) {
    const auto model = make({{"type", "coprocessor"}, {"count", 2}}, {{"groups", groups}});
    auto& augmented = dynamic_cast<AugmentedModel&>(*model);
    const InsertionRule rule = InsertionRule::of(augmented);
    const AugmentedResult result = evaluate_augmented(augmented, windows(), rule);
    if (!first) first = result;
    EXPECT_EQ(result.loss, first->loss) << groups;
    EXPECT_EQ(result.base_loss, first->base_loss);
    EXPECT_EQ(result.predictions, 8 * 16 * 4);
    EXPECT_EQ(result.insertions, 8 * 16);
    // evaluate() is the base's, of every token.
    EXPECT_EQ(evaluate(augmented, windows()).loss, evaluate(augmented.base(), windows()).loss);
    EXPECT_EQ(evaluate(augmented, windows()).targets, 8 * 24);
  }
  EXPECT_NE(first->loss, first->base_loss);
  // The same as the table's measure behind the same rule.
  const auto model = make({{"type", "coprocessor"}, {"count", 2}});
  auto& augmented = dynamic_cast<AugmentedModel&>(*model);
  const LatentEffect effect = measure_latent_effect(
      augmented, windows(), {.rule = InsertionRule::of(augmented), .resamples = 0});
  EXPECT_NEAR(effect.all.nll, first->loss, 1e-9);
  EXPECT_NEAR(effect.all.base_nll, first->base_loss, 1e-9);
}

}  // namespace
}  // namespace reverie
