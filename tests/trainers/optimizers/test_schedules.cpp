#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/json.h"
#include "support/message_of.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/optimizers/schedule.h"
#include "trainers/runs/earlier_spellings.h"

namespace reverie {
namespace {

std::unique_ptr<Schedule> make(const Json& config) {
  const ScheduleRegistry& registry = ScheduleRegistry::instance();
  return registry.make(resolve_component(registry, Config(config, "$")));
}

TEST(Cosine, WarmsUpThenFalls) {
  const Json config = {{"type", "cosine"}, {"minimum_learning_rate", 0.1}, {"warmup_steps", 10}};
  const auto s = make(config);
  EXPECT_NEAR(s->rate(1, 0, 110), 1.0 / 11, 1e-12);
  EXPECT_NEAR(s->rate(1, 10, 110), 1.0, 1e-12);
  EXPECT_NEAR(s->rate(1, 60, 110), 0.55, 1e-12);
  EXPECT_NEAR(s->rate(1, 110, 110), 0.1, 1e-12);
  Json early = config;
  early["decay_steps"] = 60;
  EXPECT_NEAR(make(early)->rate(1, 80, 110), 0.1, 1e-12);
}

TEST(Constant, StaysAfterWarmup) {
  const auto s = make({{"type", "constant"}, {"warmup_steps", 4}});
  EXPECT_NEAR(s->rate(2, 1, 10), 2 * 2.0 / 5, 1e-12);
  EXPECT_EQ(s->rate(2, 4, 10), 2);
  EXPECT_EQ(s->rate(2, 1000000, 10), 2);
}

TEST(WarmupStableDecay, FallsInTheLastSteps) {
  const auto s = make({{"type", "wsd"},
                       {"warmup_steps", 10},
                       {"decay_fraction", 0.25},
                       {"minimum_learning_rate", 0.2}});
  EXPECT_NEAR(s->rate(1, 4, 100), 5.0 / 11, 1e-12);
  EXPECT_EQ(s->rate(1, 10, 100), 1);
  EXPECT_EQ(s->rate(1, 74, 100), 1);
  EXPECT_NEAR(s->rate(1, 75, 100), 1 - 0.8 / 25, 1e-12);
  EXPECT_NEAR(s->rate(1, 99, 100), 0.2, 1e-12);
  // A longer run has the same steps before it falls.
  for (int64_t step = 0; step < 75; ++step) EXPECT_EQ(s->rate(1, step, 100), s->rate(1, step, 400));
  const auto root =
      make({{"type", "wsd"}, {"warmup_steps", 0}, {"decay_fraction", 1.0}, {"decay", "1-sqrt"}});
  EXPECT_NEAR(root->rate(1, 24, 100), 0.5, 1e-12);
}

TEST(Schedules, AreNeverNegativeNorAboveTheHighest) {
  for (const std::string& name : ScheduleRegistry::instance().names())
    for (const int64_t total : {0, 1, 3, 200})
      for (int64_t step = 0; step < total + 5; ++step) {
        const double rate = make({{"type", name}})->rate(0.01, step, total);
        EXPECT_GE(rate, 0) << name;
        EXPECT_LE(rate, 0.01) << name;
      }
}

TEST(EarlierSpellings, KeysOfTheCosineGoToTheSchedule) {
  const Json now = in_current_spelling(
      {{"optimizer", {{"learning_rate", 0.1}, {"warmup_steps", 3}, {"minimum_learning_rate", 0}}}});
  EXPECT_EQ(now,
            Json({{"optimizer",
                   {{"type", "adamw"},
                    {"learning_rate", 0.1},
                    {"schedule",
                     {{"type", "cosine"}, {"warmup_steps", 3}, {"minimum_learning_rate", 0}}}}}}));
  EXPECT_EQ(in_current_spelling(now), now);
  EXPECT_EQ(in_current_spelling({{"seed", 1}}), Json({{"seed", 1}}));
  EXPECT_EQ(in_current_spelling(
                {{"optimizer", {{"warmup_steps", 3}, {"schedule", {{"decay_steps", 9}}}}}})
                .at("optimizer")
                .at("schedule"),
            Json({{"type", "cosine"}, {"decay_steps", 9}, {"warmup_steps", 3}}));
  EXPECT_THAT(testing::message_of<ConfigError>([] {
                in_current_spelling(
                    {{"optimizer", {{"warmup_steps", 3}, {"schedule", {{"type", "wsd"}}}}}});
              }),
              ::testing::HasSubstr("$.optimizer.schedule.warmup_steps"));
}

TEST(EarlierSpellings, AdamWWithACosineIsAsItWas) {
  const OptimizerRegistry& registry = OptimizerRegistry::instance();
  const auto resolved = [&](const Json& config) {
    const Component component = resolve_component(registry, Config(config, "$.optimizer"));
    return optimizer_in_first_spelling(*component.resolved);
  };
  EXPECT_EQ(json_text(resolved({{"type", "adamw"}})),
            R"({"learning_rate":0.001,"minimum_learning_rate":0.0001,"warmup_steps":100,)"
            R"("decay_steps":"auto","beta1":0.9,"beta2":0.99,"eps":1e-08,"weight_decay":0.1,)"
            R"("gradient_clip":1.0})");
  EXPECT_EQ(resolved({{"type", "muon"}}).at("type"), "muon");
  EXPECT_TRUE(resolved({{"type", "adamw"}, {"schedule", {{"type", "wsd"}}}}).contains("schedule"));
}

}  // namespace
}  // namespace reverie
