#pragma once
// What latents change: the perplexity of the n-th token after them, beside the base's own.

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/sampler.h"
#include "layers/coprocessor/augmented_model.h"

namespace reverie {

struct LatentEffectOptions {
  int64_t positions = 32;    // tokens scored after the latents
  int64_t groups = 16;       // insertion points in each text, evenly spaced
  int64_t resamples = 1000;  // of texts, for the intervals
  uint64_t seed = 1;         // of the resampling
  bool shuffled = false;     // latents of the next text of the batch instead of the text's own
};

struct LatentEffect {
  struct Position {
    int64_t position = 0;       // 1: the first token after the latents
    double base_nll = 0;        // nats, mean over texts and insertion points
    double nll = 0;             // with latents
    double change_percent = 0;  // of perplexity: 100 (exp(nll - base_nll) - 1)
    double low = 0, high = 0;   // 95 % interval of the change, by resampling whole texts
  };
  std::vector<Position> by_position;
  Position all;  // over all positions together; its position is 0
  int64_t texts = 0, insertions = 0;
};

// Every text is a window of `windows`. The base's figure is of the same tokens from the same true
// prefix, without latents. With `shuffled`, UserError for batches of a single text.
LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options);

}  // namespace reverie
