#include "trainers/evaluation/token_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/error.h"

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

TEST(TokenChoice, RefusesWhatIsOutOfRange) {
  EXPECT_THROW(require_valid({.temperature = -1}), UserError);
  EXPECT_THROW(require_valid({.temperature = NAN}), UserError);
  EXPECT_THROW(require_valid({.top_k = -1}), UserError);
  for (const double p : {0.0, -0.1, 1.1, double(NAN)})
    EXPECT_THROW(require_valid({.top_p = p}), UserError) << p;
  const std::vector<float> broken = {1, NAN};
  Draws draws(1);
  EXPECT_EQ(choose_token(std::span<const float>(broken), {}, draws), kNoToken);
}

}  // namespace
}  // namespace reverie
