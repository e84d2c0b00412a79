#include <algorithm>
#include <numeric>
#include <set>

#include "core/random.h"
#include "datasets/data_support.h"
#include "datasets/sampler.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;

// Tokens 0, 1, 2, ...: a token says where it stands.
TokenFile counting_tokens(const TemporaryDirectory& directory, int32_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 0);
  const std::string file = directory / (std::to_string(count) + ".tok");
  TokenFileWriter writer(file, count + 1, "", "");
  writer.append(tokens);
  writer.finish();
  return open_tokens(file);
}

std::vector<double> row(const Tensor& tensor, int64_t index) {
  return tensor.select(0, index).to_vector();
}

// Each row counts up from its first token, and the targets are one further.
void expect_windows(const Batch& batch, int64_t rows, int64_t block_size) {
  ASSERT_EQ(batch.tokens.shape(), (Shape{rows, block_size}));
  ASSERT_EQ(batch.targets.shape(), (Shape{rows, block_size}));
  EXPECT_EQ(batch.tokens.dtype(), DType::i32);
  EXPECT_EQ(batch.target_count, rows * block_size);
  for (int64_t r = 0; r < rows; ++r) {
    const auto tokens = row(batch.tokens, r), targets = row(batch.targets, r);
    for (size_t t = 0; t < tokens.size(); ++t) {
      EXPECT_EQ(tokens[t], tokens[0] + double(t));
      EXPECT_EQ(targets[t], tokens[t] + 1);
    }
  }
}

TEST(RandomWindowSampler, RowsAreWindowsAndTargetsTheNextTokens) {
  const TemporaryDirectory directory;
  const RandomWindowSampler sampler(counting_tokens(directory, 1000), 6, 16, 1337);
  for (int64_t i = 0; i < 20; ++i) expect_windows(sampler.batch(i), 6, 16);
}

TEST(RandomWindowSampler, ABatchIsAFunctionOfSeedAndIndex) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 1000);
  RandomWindowSampler first(tokens, 4, 8, 7), again(tokens, 4, 8, 7), other(tokens, 4, 8, 8);
  std::vector<Batch> batches;
  for (int i = 0; i < 10; ++i) batches.push_back(first.next());
  EXPECT_EQ(first.position(), 10);
  again.seek(6);  // a resumed run
  for (size_t i = 6; i < 10; ++i) {
    const Batch batch = again.next();
    EXPECT_TRUE(bit_identical(batch.tokens, batches[i].tokens));
    EXPECT_TRUE(bit_identical(batch.targets, batches[i].targets));
  }
  EXPECT_FALSE(bit_identical(batches[0].tokens, batches[1].tokens));
  EXPECT_FALSE(bit_identical(other.batch(0).tokens, batches[0].tokens));
  EXPECT_THROW(again.seek(-1), UserError);
}

TEST(RandomWindowSampler, AnySplitTakesRowsOfTheSameBatch) {
  const TemporaryDirectory directory;
  const RandomWindowSampler sampler(counting_tokens(directory, 500), 12, 8, 3);
  const Batch whole = sampler.batch(5);
  for (const int64_t parts : {1, 2, 3, 4, 6, 12})
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t rows = 12 / parts;
      const Batch split = sampler.rows(5, part * rows, rows);
      EXPECT_TRUE(bit_identical(
          split.tokens, whole.tokens.slice(0, part * rows, (part + 1) * rows).contiguous()));
      EXPECT_EQ(split.target_count, rows * 8);
    }
  EXPECT_THROWS_SAYING(sampler.rows(5, 8, 5), UserError, "rows 8 to 13");
  EXPECT_THROW(sampler.rows(5, 0, 0), UserError);
  EXPECT_THROW(sampler.rows(-1, 0, 1), UserError);
}

TEST(RandomWindowSampler, StartsAreUniformOverEveryPlaceThatFits) {
  const TemporaryDirectory directory;
  const RandomWindowSampler sampler(counting_tokens(directory, 20), 10, 12, 11);  // places 0 .. 7
  std::vector<int> seen(8, 0);
  for (int64_t i = 0; i < 1000; ++i)
    for (int64_t r = 0; r < 10; ++r) {
      const int64_t start = sampler.window_start(i, r);
      ASSERT_GE(start, 0);
      ASSERT_LT(start, 8);
      ++seen[size_t(start)];
    }
  // Chi-squared with 7 degrees of freedom: above 24.3 once in 1000 seeds; this seed is fixed.
  double chi_squared = 0;
  for (const int n : seen) chi_squared += (n - 1250.0) * (n - 1250.0) / 1250.0;
  EXPECT_LT(chi_squared, 24.3);
}

// The rule that the header states, so that a checkpoint of one build means the same batches to
// another.
TEST(RandomWindowSampler, DrawsFromPhiloxAsDocumented) {
  const TemporaryDirectory directory;
  const RandomWindowSampler sampler(counting_tokens(directory, 1000), 4, 8, 99);
  const Philox4 random = philox(99, 3 * 4 + 2);
  const double fraction = (double(random.v[1]) + double(random.v[0]) / 4294967296.0) / 4294967296.0;
  EXPECT_EQ(sampler.window_start(3, 2), int64_t(fraction * 992));
}

// The token that a model always saw first: targets, and what else is read, stay.
TEST(Samplers, AWindowsFirstTokenIsReplacedWhereTheRuleSaysSo) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 100);
  TargetRule rule;
  rule.window_begin = 100;
  const RandomWindowSampler with(tokens, 3, 8, 1, rule), without(tokens, 3, 8, 1);
  const auto windows = EvaluationWindows::over(tokens, rule, 4, 8, 0),
             plain = EvaluationWindows::over(tokens, {}, 4, 8, 0);
  ASSERT_EQ(windows.batch_count(), plain.batch_count());
  std::vector<std::pair<Batch, Batch>> pairs{{with.batch(5), without.batch(5)}};
  for (int64_t i = 0; i < windows.batch_count(); ++i)  // the last one is a shorter window
    pairs.emplace_back(windows.batch(i), plain.batch(i));
  for (const auto& [got, as_it_is] : pairs) {
    EXPECT_TRUE(bit_identical(got.targets, as_it_is.targets));
    EXPECT_EQ(got.target_count, as_it_is.target_count);
    for (int64_t r = 0; r < got.tokens.size(0); ++r) {
      auto wanted = row(as_it_is.tokens, r);
      wanted[0] = 100;
      EXPECT_EQ(row(got.tokens, r), wanted);
    }
  }
}

TEST(Samplers, ABlockLargerThanTheDataSaysBothNumbers) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 64);
  EXPECT_THROWS_SAYING(RandomWindowSampler(tokens, 1, 64, 0), UserError,
                       "block_size 64 is larger than the data");
  EXPECT_THROWS_SAYING(RandomWindowSampler(tokens, 1, 100, 0), UserError, "64 tokens");
  EXPECT_THROWS_SAYING(RandomWindowSampler(tokens, 1, 100, 0), UserError, "at most 63");
  EXPECT_THROWS_SAYING(SequentialSampler(tokens, 1, 64), UserError, "64 tokens");
  EXPECT_THROWS_SAYING(RandomWindowSampler(counting_tokens(directory, 1), 1, 64, 0), UserError,
                       "a window takes block_size + 1 = 65; give more data, or a "
                       "$.data.validation_fraction");
  EXPECT_THROWS_SAYING(SequentialSampler(tokens, 4, 16), UserError, "15 each");
  EXPECT_THROWS_SAYING(EvaluationWindows(tokens, 1, 64, 1), UserError, "64 tokens");
  EXPECT_THROWS_SAYING(EvaluationWindows(TokenFile(), 1, 8, 1), UserError, "0 tokens");
  EXPECT_EQ(RandomWindowSampler(tokens, 3, 63, 0).window_start(9, 2), 0);
  EXPECT_THROW(RandomWindowSampler(tokens, 0, 8, 0), UserError);
  EXPECT_THROW(RandomWindowSampler(tokens, 1, 0, 0), UserError);
}

TEST(SequentialSampler, ARowGoesOnWhereItEnded) {
  const TemporaryDirectory directory;
  const SequentialSampler sampler(counting_tokens(directory, 101), 3,
                                  8);  // lanes of 33 tokens: 4 batches a pass
  ASSERT_EQ(sampler.batches_per_pass(), 4);
  for (int64_t i = 0; i < 9; ++i) {
    const Batch batch = sampler.batch(i);
    expect_windows(batch, 3, 8);
    for (int64_t r = 0; r < 3; ++r) EXPECT_EQ(row(batch.tokens, r)[0], double(r * 33 + i % 4 * 8));
    EXPECT_EQ(sampler.begins_texts(i), i % 4 == 0);
  }
  EXPECT_TRUE(bit_identical(sampler.rows(6, 1, 2).tokens,
                            sampler.batch(6).tokens.slice(0, 1, 3).contiguous()));
}

TEST(EvaluationWindows, AllThatFitStandSideBySide) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 100);
  const EvaluationWindows windows(tokens, 4, 9, 0);
  ASSERT_EQ(windows.window_count(), 11);  // 99 targets
  ASSERT_EQ(windows.batch_count(), 3);
  std::vector<double> targets;
  for (int64_t i = 0; i < 3; ++i) {
    const Batch batch = windows.batch(i);
    expect_windows(batch, i < 2 ? 4 : 3, 9);
    const auto values = batch.targets.to_vector();
    targets.insert(targets.end(), values.begin(), values.end());
  }
  std::vector<double> wanted(99);
  std::iota(wanted.begin(), wanted.end(), 1.0);
  EXPECT_EQ(targets, wanted);  // every token but the first, once
  EXPECT_EQ(EvaluationWindows(tokens, 4, 9, 1000).window_count(), 11);
  EXPECT_THROW(windows.batch(3), UserError);
}

TEST(EvaluationWindows, SomeOfThemKeepTheirPlaces) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 101);
  const EvaluationWindows all(tokens, 4, 10, 0);  // ten, and nothing is left
  const EvaluationWindows odd = all.where([](int64_t i) { return i % 2 == 1; });
  ASSERT_EQ(odd.window_count(), 5);
  ASSERT_EQ(odd.batch_count(), 2);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(odd.window_start(i), 10 * (2 * i + 1));
  EXPECT_EQ(odd.batch(1).targets.to_vector().front(), 91);
  // A shorter window at the end is none of them.
  const EvaluationWindows with_rest(tokens, 4, 11, 0);
  ASSERT_EQ(with_rest.window_count(), 10);
  EXPECT_EQ(with_rest.where([](int64_t) { return true; }).window_count(), 9);
  EXPECT_THROWS_SAYING(all.where([](int64_t) { return false; }), UserError, "none of 10");
}

// 99 targets in windows of 10: nine, and one of the nine that are left.
TEST(EvaluationWindows, WhatIsLeftIsAShorterWindow) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 100);
  for (const int64_t asked : {0, 10, 1000}) {
    const EvaluationWindows windows(tokens, 4, 10, asked);
    ASSERT_EQ(windows.window_count(), 10);
    ASSERT_EQ(windows.batch_count(), 4);
    EXPECT_EQ(windows.window_start(9), 90);
    std::vector<double> targets;
    int64_t counted = 0;
    for (int64_t i = 0; i < 4; ++i) {
      const Batch batch = windows.batch(i);
      const auto values = batch.targets.to_vector();
      targets.insert(targets.end(), values.begin(), values.end());
      counted += batch.target_count;
    }
    EXPECT_EQ(windows.batch(3).tokens.shape(), (Shape{1, 9}));
    std::vector<double> wanted(99);
    std::iota(wanted.begin(), wanted.end(), 1.0);
    EXPECT_EQ(targets, wanted);
    EXPECT_EQ(counted, 99);
  }
  EXPECT_EQ(EvaluationWindows(tokens, 4, 10, 9).batch_count(), 3) << "nine windows were asked for";
}

TEST(EvaluationWindows, FewerAreEvenlySpacedAndNeverOverlap) {
  const TemporaryDirectory directory;
  const TokenFile tokens = counting_tokens(directory, 1003);
  for (const int64_t count : {1, 2, 3, 7, 50, 99, 124}) {
    const EvaluationWindows windows(tokens, 4, 8, count);
    ASSERT_EQ(windows.window_count(), count);
    EXPECT_EQ(windows.window_start(0), 0);
    std::set<int64_t> gaps;
    for (int64_t i = 1; i < count; ++i)
      gaps.insert(windows.window_start(i) - windows.window_start(i - 1));
    if (!gaps.empty()) {
      EXPECT_GE(*gaps.begin(), 8);
      EXPECT_LE(*gaps.rbegin() - *gaps.begin(), 1);
      EXPECT_EQ(windows.window_start(count - 1), 1003 - 1 - 8);
    }
    EXPECT_TRUE(bit_identical(windows.batch(0).tokens,
                              EvaluationWindows(tokens, 4, 8, count).batch(0).tokens));
  }
}

}  // namespace
}  // namespace reverie
