#pragma once
/// The next token of a text, drawn from a row of logits.

#include <cstdint>
#include <span>
#include <vector>

#include "core/random.h"

namespace reverie {

struct TokenChoice {
  double temperature = 1;  ///< divides the logits; 0: always the likeliest token
  int64_t top_k = 0;       ///< draw among the k likeliest alone; 0: among all
  /// Draw among the fewest likeliest tokens whose probabilities sum to this or more; 1: among all.
  double top_p = 1;
  /// Draw among the tokens at least this many times as likely as the likeliest; 0: among all.
  double min_p = 0;
  /// Logits of tokens that the text holds are divided by this where positive, else multiplied (Keskar
  /// et al. 2019, arXiv 1909.05858); 1: they stay.
  double repetition_penalty = 1;
};

/// UserError, naming the value, where one is out of range.
void require_valid(const TokenChoice&);

/// The draws of one text. A vocabulary's weights are many: their room is kept from token to token.
struct Draws {
  explicit Draws(uint64_t seed) : random(seed) {}
  Generator random;
  std::vector<double> weights;
};

/// Instead of a token: the logits are not finite.
inline constexpr int32_t kNoToken = -1;

/// The token that follows `text` (prompt and what was written; read for the repetition penalty
/// alone): the penalty changes the logits, temperature divides them, and top_k, top_p and min_p leave
/// tokens out, in this order, as transformers' generate() does. Ties go to the smaller number. One
/// number is drawn for each token, none at temperature 0.
int32_t choose_token(std::span<const float> logits, const TokenChoice&, Draws&,
                     std::span<const int32_t> text = {});
int32_t choose_token(std::span<const double> logits, const TokenChoice&, Draws&,
                     std::span<const int32_t> text = {});

/// The probability of each token to be drawn, 0 where one was left out; temperature is not 0.
std::vector<double> token_probabilities(std::span<const float> logits, const TokenChoice&,
                                        std::span<const int32_t> text = {});
std::vector<double> token_probabilities(std::span<const double> logits, const TokenChoice&,
                                        std::span<const int32_t> text = {});

}  // namespace reverie
