#pragma once
/// Means with their standard errors, and two models on the same items.

#include <cstdint>
#include <span>
#include <vector>

namespace reverie {

struct MeanEstimate {
  double mean = 0;
  double standard_error = 0;  ///< sample standard deviation / sqrt(n); not a number for n < 2
};
MeanEstimate mean_estimate(std::span<const double> values);

/// The standard error of a mean over parts, from theirs, as lm-eval pools it: each part's variance
/// counts with its items less one. Not a number where all parts together have no item to spare.
double pooled_standard_error(std::span<const MeanEstimate> parts, std::span<const int64_t> sizes);

struct PairedDifference {
  double mean = 0;                 ///< of a - b
  double low = 0, high = 0;        ///< 95 % of the means of resampled items (percentile bootstrap)
  int64_t only_a = 0, only_b = 0;  ///< items that are right for one of the two alone
  double mcnemar_p = 1;            ///< exact, two-sided: how likely so uneven a split is by chance
};
/// Values of the same items, which are 0 or 1. The resamples are functions of `seed`. UserError for
/// lists that differ in length or are empty.
PairedDifference paired_difference(std::span<const double> a, std::span<const double> b,
                                   int64_t resamples = 10000, uint64_t seed = 1);

/// Probability that of `all` fair coins at most `few` or at least all - few show heads.
double two_sided_binomial(int64_t few, int64_t all);

}  // namespace reverie
