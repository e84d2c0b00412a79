#include "trainers/benchmarks/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/error.h"

namespace reverie {
namespace {

// Values of lm-eval 0.4.13: mean_stderr([1, 0, 1, 1, 0]), pooled_sample_stderr([0.1, 0.2], [10, 30]).
TEST(BenchmarkStatistics, GiveTheErrorsOfLmEval) {
  const std::vector<double> values{1, 0, 1, 1, 0};
  const MeanEstimate e = mean_estimate(values);
  EXPECT_DOUBLE_EQ(e.mean, 0.6);
  EXPECT_NEAR(e.standard_error, 0.2449489742783178, 1e-15);
  const std::vector<MeanEstimate> parts{{0, 0.1}, {0, 0.2}};
  const std::vector<int64_t> sizes{10, 30};
  EXPECT_NEAR(pooled_standard_error(parts, sizes), 0.15325417483795722, 1e-15);
  EXPECT_TRUE(std::isnan(mean_estimate(std::vector<double>{1}).standard_error));
}

// scipy.stats.binomtest(k, n, 0.5).pvalue
TEST(BenchmarkStatistics, GiveMcNemarsExactP) {
  EXPECT_NEAR(two_sided_binomial(2, 10), 0.109375, 1e-12);
  EXPECT_NEAR(two_sided_binomial(8, 10), 0.109375, 1e-12);
  EXPECT_DOUBLE_EQ(two_sided_binomial(5, 10), 1);
  EXPECT_DOUBLE_EQ(two_sided_binomial(0, 0), 1);
  EXPECT_NEAR(two_sided_binomial(40, 120), 0.00033040001839131815, 1e-12);
}

TEST(BenchmarkStatistics, CompareTwoModelsOnTheSameItems) {
  std::vector<double> a, b;
  for (int i = 0; i < 200; ++i) {
    a.push_back(i % 4 != 0);
    b.push_back(i % 2 == 0);
  }
  const PairedDifference d = paired_difference(a, b);
  EXPECT_NEAR(d.mean, 0.25, 1e-12);
  EXPECT_EQ(d.only_a, 100);
  EXPECT_EQ(d.only_b, 50);
  EXPECT_NEAR(d.mcnemar_p, two_sided_binomial(50, 150), 1e-15);
  // The error of the mean: values 1 (100), -1 (50), 0 (50); sd 0.83, / sqrt(200) 0.0587.
  EXPECT_NEAR(d.low, 0.25 - 1.96 * 0.0587, 0.01);
  EXPECT_NEAR(d.high, 0.25 + 1.96 * 0.0587, 0.01);
  const PairedDifference same = paired_difference(a, a);
  EXPECT_EQ(same.mean, 0);
  EXPECT_EQ(same.low, 0);
  EXPECT_EQ(same.high, 0);
  EXPECT_EQ(same.mcnemar_p, 1);
  EXPECT_THROW(paired_difference(a, std::vector<double>{1}), UserError);
}

}  // namespace
}  // namespace reverie
