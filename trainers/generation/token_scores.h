#pragma once
/// Log-probabilities that a model gives to tokens, one by one, and the likeliest in their place.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "layers/language_model.h"

namespace reverie {

struct TokenScore {
  int32_t token = 0;
  double log_probability = 0;  ///< natural logarithm, of the softmax over all rows of the head
  /// The likeliest tokens and their log-probabilities, best first; ties by number.
  std::vector<std::pair<int32_t, double>> likeliest = {};
};

/// The score of `token` in a row of logits (f32 or f64 on the host, [V]), and of the `likeliest`
/// tokens; at most V. What is not finite stays so: see require_finite_scores().
TokenScore token_score(std::span<const float> logits, int32_t token, int64_t likeliest);
TokenScore token_score(std::span<const double> logits, int32_t token, int64_t likeliest);

/// Row r of final hidden states [1, R, C] predicts targets[r] -> R scores. Logits are made for as
/// many rows at a time as fit. Under NoGrad.
std::vector<TokenScore> token_scores(LanguageModel& model, const Variable& hidden,
                                     std::span<const int32_t> targets, int64_t likeliest);

/// DivergedError where one is not finite.
void require_finite_scores(std::span<const TokenScore> scores);

}  // namespace reverie
