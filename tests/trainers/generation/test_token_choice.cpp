#include "trainers/generation/token_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

const std::vector<double> kProbabilities = {0.1, 0.4, 0.2, 0.3};

// Shares of the tokens in 4000 draws.
std::vector<double> shares(const TokenChoice& choice) {
  std::vector<float> logits;
  for (const double p : kProbabilities) logits.push_back(float(std::log(p)));
  Draws draws(5);
  std::vector<double> drawn(4, 0.0);
  for (int i = 0; i < 4000; ++i)
    drawn[size_t(choose_token(std::span<const float>(logits), choice, draws))] += 1;
  for (double& count : drawn) count /= 4000;
  return drawn;
}

void expect_near(const std::vector<double>& drawn, const std::vector<double>& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(drawn[i], wanted[i], 4 * std::sqrt(wanted[i] * (1 - wanted[i]) / 4000)) << i;
}

TEST(TokenChoice, TopPDrawsAmongTheFewestThatHoldTheShare) {
  expect_near(shares({.top_p = 1}), kProbabilities);
  expect_near(shares({.top_p = 0.7 - 1e-6}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_near(shares({.top_p = 0.7 + 1e-6}), {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  expect_near(shares({.top_p = 1e-9}), {0, 1, 0, 0});
}

// Top-p counts its share among the k likeliest alone.
TEST(TokenChoice, TopPComesBehindTopKAndTemperature) {
  expect_near(shares({.top_k = 3, .top_p = 0.7}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_near(shares({.top_k = 3, .top_p = 0.8}), {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  expect_near(shares({.temperature = 0.5, .top_p = 0.8}), {0, 16 / 25.0, 0, 9 / 25.0});
}

TEST(TokenChoice, MinPDrawsAmongThoseNearTheLikeliest) {
  expect_near(shares({.min_p = 0.74}), {0, 4 / 7.0, 0, 3 / 7.0});
  expect_near(shares({.min_p = 0.49}), {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  expect_near(shares({.min_p = 1}), {0, 1, 0, 0});
}

// The likeliest token gives way once the text holds it; a token counts once, however often it came.
TEST(TokenChoice, ThePenaltyReachesGreedyTexts) {
  const std::vector<float> logits = {2, 3, -1, 0.5F};
  const TokenChoice greedy{.temperature = 0, .repetition_penalty = 2};
  Draws draws(1);
  const auto chosen = [&](const std::vector<int32_t>& text) {
    return choose_token(std::span<const float>(logits), greedy, draws, text);
  };
  EXPECT_EQ(chosen({}), 1);
  EXPECT_EQ(chosen({1}), 0);
  EXPECT_EQ(chosen({1, 0, 1}), 1) << "3 / 2 against 2 / 2";
  EXPECT_EQ(chosen({1, 99}), 0) << "a token beyond the vocabulary";
  const TokenChoice rewards{.temperature = 0, .repetition_penalty = 0.25};
  EXPECT_EQ(choose_token(std::span<const float>(logits), rewards, draws, std::vector<int32_t>{3}),
            1);
  EXPECT_EQ(choose_token(std::span<const float>(logits), rewards, draws, std::vector<int32_t>{0}),
            0);
}

// As transformers' generate() has them: tests/golden/make/make_token_choice_golden.py.
template <class T>
void expect_golden(double tolerance) {
  const Json golden =
      parse_json(read_file(testing::test_directory() + "/golden/token_choice.json"));
  const auto text = golden.at("text").get<std::vector<int32_t>>();
  int64_t left_out = 0;
  for (const Json& one : golden.at("cases")) {
    const Json& s = one.at("setting");
    const TokenChoice choice{s.value("temperature", 1.0), s.value("top_k", int64_t(0)),
                             s.value("top_p", 1.0), s.value("min_p", 0.0),
                             s.value("repetition_penalty", 1.0)};
    for (size_t row = 0; row < golden.at("logits").size(); ++row) {
      const auto logits = golden.at("logits")[row].get<std::vector<T>>();
      const auto wanted = one.at("probabilities")[row].get<std::vector<double>>();
      const auto found = token_probabilities(std::span<const T>(logits), choice, text);
      ASSERT_EQ(found.size(), wanted.size());
      for (size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_NEAR(found[i], wanted[i], tolerance) << json_text(s) << ", token " << i;
        EXPECT_EQ(found[i] == 0, wanted[i] == 0) << json_text(s) << ", token " << i;
        left_out += wanted[i] == 0 ? 1 : 0;
      }
    }
  }
  EXPECT_GT(left_out, 100) << "the settings leave tokens out";
}
TEST(TokenChoice, ProbabilitiesAreThoseOfTransformers) {
  expect_golden<double>(1e-12);
  expect_golden<float>(1e-6);
}

TEST(TokenChoice, RefusesWhatIsOutOfRange) {
  EXPECT_THROW(require_valid({.temperature = -1}), UserError);
  EXPECT_THROW(require_valid({.temperature = NAN}), UserError);
  EXPECT_THROW(require_valid({.top_k = -1}), UserError);
  for (const double p : {0.0, -0.1, 1.1, double(NAN)})
    EXPECT_THROW(require_valid({.top_p = p}), UserError) << p;
  for (const double p : {-0.1, 1.1, double(NAN)})
    EXPECT_THROW(require_valid({.min_p = p}), UserError) << p;
  for (const double p : {0.0, -1.0, double(INFINITY), double(NAN)})
    EXPECT_THROW(require_valid({.repetition_penalty = p}), UserError) << p;
  const std::vector<float> broken = {1, NAN};
  Draws draws(1);
  EXPECT_EQ(choose_token(std::span<const float>(broken), {}, draws), kNoToken);
}

}  // namespace
}  // namespace reverie
