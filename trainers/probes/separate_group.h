#pragma once
/// One group of a coprocessor's packed batch, computed by itself.

#include "layers/coprocessor/augmented_model.h"

namespace reverie {

/// One group by itself: plain forwards over nothing but the group's own prefix of its text and its
/// latents, and then over its ahead tokens behind the keys and values that the source lets them see.
/// No later token is in memory. tokens i32 [B, T]. With `others` i32 [B, T] the latents are made of
/// the prefix of that text, which is as long.
struct SeparateGroup {
  Variable hidden;  ///< [1, A, C], final states of the rows that predict
  Tensor targets;   ///< i32 [1, A]
  Tensor prefix;    ///< i32 [1, limit]
};
SeparateGroup separate_group(AugmentedModel& model, const Tensor& tokens,
                             const InsertionPoints& points, int64_t text, int64_t group,
                             const Tensor& others = {});

/// The loss of one group by itself, summed over its targets (separate_group()), and the source's own
/// loss, where it has one.
Variable separate_loss(AugmentedModel& model, const Tensor& tokens, const InsertionPoints& points,
                       int64_t text, int64_t group);

}  // namespace reverie
