#include "trainers/benchmarks/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"

namespace reverie {

MeanEstimate mean_estimate(std::span<const double> values) {
  MeanEstimate e;
  const double count = double(values.size());
  for (const double value : values) e.mean += value;
  e.mean /= count;
  double squares = 0;
  for (const double value : values) squares += (value - e.mean) * (value - e.mean);
  e.standard_error = values.size() < 2 ? std::numeric_limits<double>::quiet_NaN()
                                       : std::sqrt(squares / (count - 1) / count);
  return e;
}

double pooled_standard_error(std::span<const MeanEstimate> parts, std::span<const int64_t> sizes) {
  double squares = 0, items = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    items += double(sizes[i]);
    if (sizes[i] > 1)
      squares += double(sizes[i] - 1) * parts[i].standard_error * parts[i].standard_error *
                 double(sizes[i]);
  }
  const double spare = items - double(parts.size());
  return spare > 0 ? std::sqrt(squares / spare / items) : std::numeric_limits<double>::quiet_NaN();
}

double two_sided_binomial(int64_t few, int64_t all) {
  few = std::min(few, all - few);
  double sum = 0;
  for (int64_t k = 0; k <= few; ++k)
    sum += std::exp(std::lgamma(double(all + 1)) - std::lgamma(double(k + 1)) -
                    std::lgamma(double(all - k + 1)) - double(all) * std::log(2.0));
  return std::min(1.0, 2 * sum);
}

PairedDifference paired_difference(std::span<const double> a, std::span<const double> b,
                                   int64_t resamples, uint64_t seed) {
  require(a.size() == b.size() && !a.empty(),
          "two models are compared on the same items; got {} and {} values", a.size(), b.size());
  PairedDifference d;
  const size_t count = a.size();
  std::vector<double> differences(count);
  for (size_t i = 0; i < count; ++i) {
    differences[i] = a[i] - b[i];
    d.mean += differences[i] / double(count);
    d.only_a += a[i] > b[i];
    d.only_b += a[i] < b[i];
  }
  d.mcnemar_p = two_sided_binomial(d.only_a, d.only_a + d.only_b);
  std::vector<double> means(static_cast<size_t>(resamples));
  uint64_t counter = 0;
  for (double& mean : means) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += differences[philox_below(seed, counter++, count)];
    mean = sum / double(count);
  }
  std::sort(means.begin(), means.end());
  const auto quantile = [&](double q) {
    return means[size_t(std::lround(q * double(means.size() - 1)))];
  };
  d.low = quantile(0.025);
  d.high = quantile(0.975);
  return d;
}

}  // namespace reverie
