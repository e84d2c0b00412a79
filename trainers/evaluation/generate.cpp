#include "trainers/evaluation/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

// The token whose share of the probability holds `u` in [0, 1).
int32_t choose(const std::vector<double>& logits, const GenerateOptions& options,
               Generator& random) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  // Ties go to the smaller id, so that a choice does not depend on the sorting algorithm.
  auto likelier = [&](int32_t a, int32_t b) {
    return logits[size_t(a)] != logits[size_t(b)] ? logits[size_t(a)] > logits[size_t(b)] : a < b;
  };
  if (options.temperature == 0) return *std::min_element(order.begin(), order.end(), likelier);
  if (options.top_k > 0 && options.top_k < int64_t(order.size())) {
    std::nth_element(order.begin(), order.begin() + options.top_k, order.end(), likelier);
    order.resize(size_t(options.top_k));
    std::sort(order.begin(), order.end());
  }
  double largest = -INFINITY, total = 0;
  for (int32_t token : order) largest = std::max(largest, logits[size_t(token)]);
  std::vector<double> weights;
  for (int32_t token : order) {
    weights.push_back(std::exp((logits[size_t(token)] - largest) / options.temperature));
    total += weights.back();
  }
  double left = random.uniform() * total;
  for (size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  // Rounding may leave a little: the last token with any weight.
  size_t last = order.size() - 1;
  while (weights[last] == 0) --last;
  return order[last];
}

}  // namespace

std::vector<int32_t> generate(LanguageModel& model, std::vector<int32_t> prompt,
                              const GenerateOptions& options,
                              const std::function<void(int32_t)>& on_token) {
  require(!prompt.empty(), "generation needs a prompt of at least one token");
  require(options.max_tokens >= 0, "max_tokens is {}, wanted 0 or more", options.max_tokens);
  require(options.temperature >= 0 && std::isfinite(options.temperature),
          "temperature is {}, wanted 0 (greedy) or more", options.temperature);
  require(options.top_k >= 0, "top_k is {}, wanted 0 (all) or more", options.top_k);
  const EvaluationMode mode(model);
  const int64_t block = model.block_size();
  Generator random(options.seed);
  std::vector<int32_t> tokens = std::move(prompt);
  const size_t prompt_size = tokens.size();
  tokens.reserve(prompt_size + size_t(options.max_tokens));

  size_t begin = tokens.size() - std::min(tokens.size(), size_t(block));  // of the context
  size_t seen = begin;  // tokens before this one are in the cache
  SequenceState state;
  state.use_cache = true;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    if (tokens.size() - begin > size_t(block)) {
      begin = seen = tokens.size() - size_t(std::max<int64_t>(1, block / 2));
      state = SequenceState();
      state.use_cache = true;
    }
    const size_t first = model.incremental() ? seen : begin;
    const std::span<const int32_t> piece = std::span(tokens).subspan(first);
    const int64_t time = int64_t(piece.size());
    const Variable hidden = model.hidden(Tensor::from<int32_t>({1, time}, piece),
                                         model.incremental() ? &state : nullptr);
    seen = tokens.size();
    const auto logits = model.logits_of(slice(hidden, 1, time - 1, time)).tensor().to_vector();
    if (!std::all_of(logits.begin(), logits.end(), [](double x) { return std::isfinite(x); }))
      throw DivergedError(
          fmt::format("the logits after {} tokens are not finite: the model's weights are broken",
                      tokens.size()));
    const int32_t token = choose(logits, options, random);
    if (token == options.end_of_text) break;
    tokens.push_back(token);
    if (on_token) on_token(tokens.back());
  }
  return {tokens.begin() + int64_t(prompt_size), tokens.end()};
}

}  // namespace reverie
