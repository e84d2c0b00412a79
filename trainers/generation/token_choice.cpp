#include "trainers/generation/token_choice.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

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

// Sets all weights to 0 but those of at least `share` of the largest.
void keep_near_likeliest(std::vector<double>& weights, double share) {
  const double least = share * *std::max_element(weights.begin(), weights.end());
  for (double& weight : weights)
    if (weight < least) weight = 0;
}

// The logits after the repetition penalty; each token of the text counts once.
template <class T>
std::vector<T> penalised(std::span<const T> logits, double penalty, std::span<const int32_t> text) {
  std::vector<T> out(logits.begin(), logits.end());
  std::vector<int32_t> tokens(text.begin(), text.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const int32_t token : tokens) {
    if (size_t(token) >= out.size()) continue;
    T& x = out[size_t(token)];
    x = x < 0 ? x * T(penalty) : x / T(penalty);
  }
  return out;
}

// Fills draws.weights with the weights of `tokens`, or of all where that stays empty.
template <class T>
void weigh(std::span<const T> logits, T largest, const TokenChoice& choice, Draws& draws,
           std::vector<int32_t>& tokens) {
  const auto weight = [&](T x) {
    return std::exp((double(x) - double(largest)) / choice.temperature);
  };
  std::vector<double>& weights = draws.weights;
  if (choice.top_k == 0 || choice.top_k >= int64_t(logits.size())) {
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
  if (choice.min_p > 0) keep_near_likeliest(weights, choice.min_p);
}

// The largest logit; nothing where one is not finite.
template <class T>
std::optional<T> largest_of(std::span<const T> logits) {
  T largest = -INFINITY;
  bool finite = true;
  for (const T x : logits) {
    largest = x > largest ? x : largest;
    finite = finite && std::isfinite(x);
  }
  if (!finite) return std::nullopt;
  return largest;
}

template <class T>
int32_t choose(std::span<const T> logits, const TokenChoice& choice, Draws& draws) {
  const std::optional<T> largest = largest_of(logits);
  if (!largest) return kNoToken;
  if (choice.temperature == 0)
    return int32_t(std::find(logits.begin(), logits.end(), *largest) - logits.begin());
  std::vector<int32_t> tokens;
  weigh(logits, *largest, choice, draws, tokens);
  const size_t drawn = share_of(draws.weights, draws.random.uniform());
  return tokens.empty() ? int32_t(drawn) : tokens[drawn];
}

template <class T>
int32_t choose_after(std::span<const T> logits, const TokenChoice& choice, Draws& draws,
                     std::span<const int32_t> text) {
  if (choice.repetition_penalty == 1) return choose(logits, choice, draws);
  const std::vector<T> changed = penalised(logits, choice.repetition_penalty, text);
  return choose(std::span<const T>(changed), choice, draws);
}

template <class T>
std::vector<double> probabilities(std::span<const T> logits, const TokenChoice& choice,
                                  std::span<const int32_t> text) {
  const std::vector<T> changed = penalised(logits, choice.repetition_penalty, text);
  const std::span<const T> all(changed);
  const std::optional<T> largest = largest_of(all);
  require(largest && choice.temperature > 0,
          "probabilities of tokens: wanted finite logits and a temperature above 0");
  Draws draws(0);
  std::vector<int32_t> tokens;
  weigh(all, *largest, choice, draws, tokens);
  const double total = std::accumulate(draws.weights.begin(), draws.weights.end(), 0.0);
  std::vector<double> out(logits.size(), 0.0);
  for (size_t i = 0; i < draws.weights.size(); ++i)
    out[tokens.empty() ? i : size_t(tokens[i])] = draws.weights[i] / total;
  return out;
}

}  // namespace

void require_valid(const TokenChoice& choice) {
  require(choice.temperature >= 0 && std::isfinite(choice.temperature),
          "temperature is {}, wanted 0 (greedy) or more", choice.temperature);
  require(choice.top_k >= 0, "top_k is {}, wanted 0 (all) or more", choice.top_k);
  require(choice.top_p > 0 && choice.top_p <= 1, "top_p is {}, wanted more than 0 and at most 1",
          choice.top_p);
  require(choice.min_p >= 0 && choice.min_p <= 1, "min_p is {}, wanted 0 (all) to 1", choice.min_p);
  require(choice.repetition_penalty > 0 && std::isfinite(choice.repetition_penalty),
          "repetition_penalty is {}, wanted more than 0 (1: none)", choice.repetition_penalty);
}

int32_t choose_token(std::span<const float> logits, const TokenChoice& choice, Draws& draws,
                     std::span<const int32_t> text) {
  return choose_after(logits, choice, draws, text);
}
int32_t choose_token(std::span<const double> logits, const TokenChoice& choice, Draws& draws,
                     std::span<const int32_t> text) {
  return choose_after(logits, choice, draws, text);
}
std::vector<double> token_probabilities(std::span<const float> logits, const TokenChoice& choice,
                                        std::span<const int32_t> text) {
  return probabilities(logits, choice, text);
}
std::vector<double> token_probabilities(std::span<const double> logits, const TokenChoice& choice,
                                        std::span<const int32_t> text) {
  return probabilities(logits, choice, text);
}

}  // namespace reverie
