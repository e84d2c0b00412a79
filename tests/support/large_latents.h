#pragma once
// Sources of latents whose weights are large.

#include "core/random.h"
#include "layers/language_model.h"

namespace reverie::testing {

// Draws the matrices that are to be trained, 0.3 N(0, 1): latents then depend on their text enough
// to change what is written behind them.
inline void draw_large_matrices(LanguageModel& model, Generator& random) {
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad() || parameter.rank() < 2) continue;
    Tensor target = parameter.tensor();
    target.copy_from(random.normal(target.shape(), 0, 0.3, target.dtype()));
  }
}

}  // namespace reverie::testing
