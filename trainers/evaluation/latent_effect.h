#pragma once
// What latents change: the perplexity of the n-th token after them, beside the base's own.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
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

// Losses (nats) of the tokens after every insertion point, of a model and of the base it is
// compared with.
struct PositionLosses {
  struct Text {
    std::vector<double> base, model, count;  // sums over the text's insertion points, by position
  };
  std::vector<Text> texts;
  int64_t insertions = 0;

  int64_t positions() const { return texts.empty() ? 0 : int64_t(texts[0].count.size()); }
  Json json() const;
  static PositionLosses from_json(const Json&);  // DataError when it is none
};

// Every text is a window of `windows`. `model` is an AugmentedModel, whose latents stand at each
// insertion point; any other model (one that was trained further, say) has none and scores the same
// tokens from the same true prefix. `base` does so, too, and may be the AugmentedModel itself where
// that one's base was not trained. UserError for shuffled latents without latents, or in batches of
// a single text.
PositionLosses measure_position_losses(LanguageModel& model, LanguageModel& base,
                                       const EvaluationWindows& windows,
                                       const LatentEffectOptions& options);

struct LatentEffect {
  struct Position {
    int64_t position = 0;               // 1: the first token after the latents
    double base_nll = 0;                // nats, mean over texts and insertion points
    double nll = 0;                     // with latents
    double change_percent = 0;          // of perplexity: 100 (exp(nll - base_nll) - 1)
    double low = 0, high = 0;           // 95 % interval of the change, by resampling whole texts
    std::vector<double> change_of_run;  // each run's own change
  };
  std::vector<Position> by_position;
  Position all;  // over all positions together; its position is 0
  int64_t texts = 0, insertions = 0;
};

// Of runs that differ by their seed and were measured on the same texts: means over them, intervals
// of that mean. UserError where the texts are not the same.
LatentEffect latent_effect(std::span<const PositionLosses* const> runs,
                           const LatentEffectOptions& options);
// What the one model changes in the other's perplexity, over all positions and text by text: both
// scored the same texts, so that how hard a text is does not widen the interval, as it does where
// two intervals against the base are held beside each other. Losses are means over each one's runs.
LatentEffect::Position paired_effect(std::span<const PositionLosses* const> model,
                                     std::span<const PositionLosses* const> against,
                                     const LatentEffectOptions& options);
// Of one model beside its own base.
LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options);

}  // namespace reverie
