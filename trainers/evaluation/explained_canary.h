#pragma once
/// The canary of decoders of memories: what they write may depend on the memory's rows and on their own
/// earlier words, and on nothing else of the text.

#include "trainers/evaluation/canary.h"
#include "trainers/runs/explained_model.h"

namespace reverie {

/// Records i32 [B, T]. Each text before the point is replaced by other tokens (of `donors` i32 [D, T],
/// where these have a text there), while the memory that the decoder gets stays that of the true text:
/// no row that writes may move. The same words over the true text have to be those of hidden().
Verdict ask_memory_alone(ExplainedModel& model, const Tensor& records, const Tensor& donors,
                         const Asking& asking);

}  // namespace reverie
