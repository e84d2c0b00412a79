#include "trainers/generation/token_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/parallel.h"

namespace reverie {
namespace {

// Logits in memory at once; a large vocabulary makes a row long.
constexpr int64_t kLogitsAtOnce = int64_t(1) << 23;

template <class T>
TokenScore score(std::span<const T> logits, int32_t token, int64_t likeliest) {
  double largest = -INFINITY, sum = 0;
  for (const T x : logits) largest = std::max(largest, double(x));
  for (const T x : logits) sum += std::exp(double(x) - largest);
  const double normaliser = largest + std::log(sum);
  TokenScore out{token, double(logits[size_t(token)]) - normaliser};
  if (!std::isfinite(normaliser)) return out;  // such rows have no order
  const auto better = [&](int32_t a, int32_t b) {
    const T x = logits[size_t(a)], y = logits[size_t(b)];
    return x > y || (x == y && a < b);
  };
  const size_t count = std::min(size_t(likeliest), logits.size());
  if (count == 0) return out;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + std::ptrdiff_t(count), order.end(), better);
  for (size_t i = 0; i < count; ++i)
    out.likeliest.emplace_back(order[i], double(logits[size_t(order[i])]) - normaliser);
  return out;
}

}  // namespace

TokenScore token_score(std::span<const float> logits, int32_t token, int64_t likeliest) {
  return score(logits, token, likeliest);
}
TokenScore token_score(std::span<const double> logits, int32_t token, int64_t likeliest) {
  return score(logits, token, likeliest);
}

std::vector<TokenScore> token_scores(LanguageModel& model, const Variable& hidden,
                                     std::span<const int32_t> targets, int64_t likeliest) {
  const int64_t rows = int64_t(targets.size()), vocabulary = model.head().size(0),
                at_once = std::max<int64_t>(1, kLogitsAtOnce / vocabulary);
  require(hidden.size(0) == 1 && hidden.size(1) == rows, "{} targets for the rows of {}", rows,
          hidden.tensor());
  std::vector<TokenScore> scores(targets.size());
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const int64_t end = std::min(rows, begin + at_once);
    const Tensor logits =
        model.logits_of(slice(hidden, 1, begin, end)).tensor().to(Device{}).contiguous();
    const auto each = [&]<class T>(const T* data) {
      share_out(end - begin, end - begin > 1, [&](int64_t i) {
        scores[size_t(begin + i)] = score(std::span(data + i * vocabulary, size_t(vocabulary)),
                                          targets[size_t(begin + i)], likeliest);
      });
    };
    if (logits.dtype() == DType::f64)
      each(logits.data<double>());
    else
      each(logits.data<float>());
  }
  return scores;
}

void require_finite_scores(std::span<const TokenScore> scores) {
  for (size_t i = 0; i < scores.size(); ++i)
    if (!std::isfinite(scores[i].log_probability))
      throw DivergedError(fmt::format(
          "the log-probability of token {} (number {} of those scored) is not finite: the model's "
          "weights are broken",
          scores[i].token, i + 1));
}

}  // namespace reverie
