#pragma once
/// Where an evaluation puts latents into a text: the same points for every model and every number of
/// groups in training.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "layers/coprocessor/augmented_model.h"

namespace reverie {

struct InsertionRule {
  int64_t points = 16;      ///< insertions in each text, none twice; 0: at every admissible offset
  int64_t positions = 32;   ///< tokens scored after each
  int64_t first = 1;        ///< least tokens before an insertion: 1 + the longest delay compared
  bool at_targets = false;  ///< one insertion in each text, in front of its first target

  /// "16 offsets of each text, drawn from 1 to T - 31 by the text's own tokens, ...".
  std::string text() const;
  /// The rule of a run by itself: its own tokens ahead and delay.
  static InsertionRule of(const AugmentedModel&);
};

/// Numbers of tokens before each insertion into a text of T tokens, rising, in first .. T + 1 -
/// positions. They are drawn by a seed made of the tokens, so that a text has the same points
/// whatever stands beside it. UserError when the text is too short for one.
std::vector<int32_t> insertion_offsets(std::span<const int32_t> tokens, const InsertionRule& rule);
/// Whether a text of so many tokens is long enough for one insertion.
bool has_insertions(int64_t tokens, const InsertionRule& rule);
/// Of every text of a batch: tokens i32 [B, T] -> i32 [B, G]. Not where the rule is at_targets.
Tensor insertion_limits(const Tensor& tokens, const InsertionRule& rule);

}  // namespace reverie
