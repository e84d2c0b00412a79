// Where latents are tried: every admissible offset alike, and the same for every model.

#include "trainers/evaluation/insertion_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/error.h"

namespace reverie {
namespace {

std::vector<int32_t> text(int seed, int length = 40) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < length; ++i) tokens.push_back((seed * 7919 + i * i * 31) % 100003);
  return tokens;
}

TEST(InsertionRule, EveryOffsetIsEveryAdmissibleOne) {
  const auto offsets = insertion_offsets(text(1), {.points = 0, .positions = 10, .first = 3});
  ASSERT_EQ(offsets.size(), 29u);  // 3 .. 31: ten targets of a text of 40 tokens remain
  EXPECT_EQ(offsets.front(), 3);
  EXPECT_EQ(offsets.back(), 31);
  EXPECT_EQ(insertion_offsets(text(1), {.points = 29, .positions = 10, .first = 3}), offsets);
  EXPECT_EQ(insertion_offsets(text(1), {.points = 99, .positions = 10, .first = 3}), offsets);
}

TEST(InsertionRule, DrawnOffsetsRiseAndNoneComesTwice) {
  for (int seed = 0; seed < 200; ++seed) {
    const auto offsets = insertion_offsets(text(seed), {.points = 8, .positions = 10});
    EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end()));
    EXPECT_EQ(std::set<int32_t>(offsets.begin(), offsets.end()).size(), 8u);
    EXPECT_GE(offsets.front(), 1);
    EXPECT_LE(offsets.back(), 31);
  }
}

// 2000 texts, 8 of 31 offsets each: every offset, the lone first token too, is expected 516 times,
// with a standard deviation of 19.6.
TEST(InsertionRule, NoOffsetIsMoreLikelyThanAnother) {
  std::vector<int> times(32);
  for (int seed = 0; seed < 2000; ++seed)
    for (const int32_t offset : insertion_offsets(text(seed), {.points = 8, .positions = 10}))
      ++times[size_t(offset)];
  for (size_t offset = 1; offset <= 31; ++offset)
    EXPECT_NEAR(times[offset], 516, 5 * 19.6) << offset;
}

TEST(InsertionRule, TheTextAloneDecides) {
  const InsertionRule rule{.points = 6, .positions = 10};
  const auto a = text(1), b = text(2);
  EXPECT_NE(insertion_offsets(a, rule), insertion_offsets(b, rule));
  std::vector<int32_t> both(a);
  both.insert(both.end(), b.begin(), b.end());
  const Tensor limits = insertion_limits(Tensor::from<int32_t>({2, 40}, both), rule);
  ASSERT_EQ(limits.shape(), (Shape{2, 6}));
  const int32_t* at = limits.data<int32_t>();
  EXPECT_EQ(std::vector<int32_t>(at, at + 6), insertion_offsets(a, rule));
  EXPECT_EQ(std::vector<int32_t>(at + 6, at + 12), insertion_offsets(b, rule));
}

TEST(InsertionRule, SaysWhatItIs) {
  EXPECT_EQ((InsertionRule{.points = 0, .positions = 32}.text()),
            "at every offset from 1 to T - 31 of a text of T tokens");
  EXPECT_EQ(
      (InsertionRule{.points = 16, .positions = 16, .first = 3}.text()),
      "16 offsets of each text, drawn by its own tokens from 3 to T - 15 of a text of T tokens");
  EXPECT_FALSE(has_insertions(9, {.positions = 10}));
  EXPECT_TRUE(has_insertions(10, {.positions = 10}));
  EXPECT_FALSE(has_insertions(11, {.positions = 10, .first = 3}));
  EXPECT_THROW(insertion_offsets(text(1, 11), {.positions = 10, .first = 3}), UserError);
}

}  // namespace
}  // namespace reverie
