#pragma once
/// The canary of models with latents: each boundary that a source of latents declares (its own text,
/// the tokens before its limit, and before them by the delay) is probed on the live model, on real
/// texts, at the run's own numbers of texts, groups and tokens.

#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/canary.h"

namespace reverie {

struct LatentSizes {
  int64_t groups = 0, ahead = 0;  ///< insertion points in each text, and tokens after each
};

/// Texts i32 [B, T], their insertion points drawn at random. In a forward every text but one gets
/// other tokens from one group's limit on, taken from `donors` i32 [D, T]; the ahead tokens stay what
/// they were. No group with that limit or an earlier one may move, and nothing in the text that
/// stayed whole. Enough forwards for each of a text's groups to be the one that is cut at once, or
/// Asking::most_forwards of them. With a delay, the latents themselves are asked at their own limit.
Verdict ask_latents(AugmentedModel& model, const Tensor& tokens, const Tensor& donors,
                    const LatentSizes& sizes, const Asking& asking);

/// Packed groups in one forward against separate forwards over nothing but the true prefix
/// (separate_group()), for `most` pairs of text and group (0: every group of every text); in eval
/// mode.
Verdict ask_separate_groups(AugmentedModel& model, const Tensor& tokens, const LatentSizes& sizes,
                            int64_t most, const Asking& asking);

}  // namespace reverie
