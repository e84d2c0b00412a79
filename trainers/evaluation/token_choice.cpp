#include "trainers/evaluation/token_choice.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"
#include "core/parallel.h"

namespace reverie {
namespace {

// The k likeliest tokens, by number. Ties go to the smaller number.
template <class T>
std::vector<int32_t> likeliest(std::span<const T> logits, int64_t k) {
  std::vector<T> values(logits.begin(), logits.end());
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
  const T least = values[size_t(k - 1)];
  int64_t ties =
      k - std::count_if(values.begin(), values.begin() + k, [&](T x) { return x > least; });
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > least || (logits[i] == least && ties-- > 0)) tokens.push_back(int32_t(i));
  return tokens;
}

// The number in [0, weights.size()) whose share of the weights holds `u` in [0, 1).
size_t share_of(std::span<const double> weights, double u) {
  double total = 0;
  for (const double weight : weights) total += weight;
  double left = u * total;
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return i;
  }
  // Rounding may leave a little: the last one with any weight.
  size_t last = weights.size() - 1;
  while (weights[last] == 0) --last;
  return last;
}

// Sets all weights to 0 but those of the fewest likeliest that hold `share` of them together.
void keep_share(std::vector<double>& weights, double share) {
  std::vector<size_t> order;
  double total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    total += weights[i];
    if (weights[i] > 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  double kept = 0;
  for (const size_t i : order) {
    const double weight = weights[i];
    if (kept >= share * total) weights[i] = 0;
    kept += weight;
  }
}

template <class T>
int32_t choose(std::span<const T> logits, const TokenChoice& choice, Draws& draws) {
  T largest = -INFINITY;
  bool finite = true;
  for (const T x : logits) {
    largest = x > largest ? x : largest;
    finite = finite && std::isfinite(x);
  }
  if (!finite) return kNoToken;
  if (choice.temperature == 0)
    return int32_t(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  const auto weight = [&](T x) {
    return std::exp((double(x) - double(largest)) / choice.temperature);
  };
  std::vector<double>& weights = draws.weights;
  const bool all = choice.top_k == 0 || choice.top_k >= int64_t(logits.size());
  std::vector<int32_t> tokens;
  if (all) {
    constexpr size_t kBlock = 4096;
    weights.resize(logits.size());
    share_out(int64_t((logits.size() + kBlock - 1) / kBlock), logits.size() > kBlock,
              [&](int64_t block) {
                const size_t begin = size_t(block) * kBlock,
                             end = std::min(logits.size(), begin + kBlock);
                for (size_t i = begin; i < end; ++i) weights[i] = weight(logits[i]);
              });
  } else {
    tokens = likeliest(logits, choice.top_k);
    weights.clear();
    for (const int32_t token : tokens) weights.push_back(weight(logits[size_t(token)]));
  }
  if (choice.top_p < 1) keep_share(weights, choice.top_p);
  const size_t drawn = share_of(weights, draws.random.uniform());
  return all ? int32_t(drawn) : tokens[drawn];
}

}  // namespace

void require_valid(const TokenChoice& choice) {
  require(choice.temperature >= 0 && std::isfinite(choice.temperature),
          "temperature is {}, wanted 0 (greedy) or more", choice.temperature);
  require(choice.top_k >= 0, "top_k is {}, wanted 0 (all) or more", choice.top_k);
  require(choice.top_p > 0 && choice.top_p <= 1, "top_p is {}, wanted more than 0 and at most 1",
          choice.top_p);
}

int32_t choose_token(std::span<const float> logits, const TokenChoice& choice, Draws& draws) {
  return choose(logits, choice, draws);
}
int32_t choose_token(std::span<const double> logits, const TokenChoice& choice, Draws& draws) {
  return choose(logits, choice, draws);
}

}  // namespace reverie
