#pragma once
/// The effect of latents: the perplexity of the n-th token after them, beside the base's own.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "datasets/sampler.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/insertion_rule.h"

namespace reverie {

class ForwardAudit;

struct LatentEffectOptions {
  InsertionRule rule = {};
  int64_t resamples = 1000;  ///< of texts and of their insertions, for the intervals
  uint64_t seed = 1;         ///< of the resampling
  bool shuffled = false;     ///< latents of the next text of the batch instead of the text's own
};

/// Losses (nats, to 1e-6) of the tokens after every insertion, of a model and of the base it is
/// compared with.
struct PositionLosses {
  struct Text {
    std::vector<int32_t> offsets;     ///< tokens before each insertion, rising
    std::vector<double> base, model;  ///< [insertion, position]; NaN: no target
  };
  std::vector<Text> texts;
  int64_t positions = 0;
  std::string rule;  ///< InsertionRule::text()

  int64_t insertions() const;
  Json json() const;
  static PositionLosses from_json(const Json&);  ///< DataError when it is none
};

/// Every text is a window of `windows`; the same insertions for every model. See insertion_losses().
/// `audit` (may be null) audits the forwards of some batches. DivergedError when a loss is not
/// finite.
PositionLosses measure_position_losses(LanguageModel& model, LanguageModel& base,
                                       const EvaluationWindows& windows,
                                       const LatentEffectOptions& options,
                                       ForwardAudit* audit = nullptr);

struct LatentEffect {
  struct Position {
    int64_t position = 0;       ///< 1: the first token after the latents
    double base_nll = 0;        ///< nats, mean over texts and insertion points
    double nll = 0;             ///< with latents
    double change_percent = 0;  ///< of perplexity: 100 (exp(nll - base_nll) - 1)
    double low = 0, high = 0;   ///< 95 % interval of the change: whole texts are drawn anew, and of
                                ///< each text drawn its insertions
    std::vector<double> change_of_run;  ///< each run's own change
  };
  std::vector<Position> by_position;
  Position all;  ///< over all positions together; its position is 0
  /// Position 1 alone, after short and long texts: whether few odd offsets make its figure.
  struct Offsets {
    int64_t first = 0, last = 0;  ///< tokens before the insertion
    int64_t insertions = 0;
    double change_percent = 0;  ///< mean over the runs
  };
  std::vector<Offsets> first_by_offset;  ///< those that have insertions
  int64_t texts = 0, insertions = 0;
  std::string rule;
};

/// The effect over runs that differ by their seed and were measured on the same texts: means,
/// intervals of that mean. UserError where the texts or the insertions are not the same.
LatentEffect latent_effect(std::span<const PositionLosses* const> runs,
                           const LatentEffectOptions& options);
/// What the one model changes in the other's perplexity, by position and text by text: both
/// scored the same texts, so that how hard a text is does not widen the interval, as it does where
/// two intervals against the base are held beside each other. Losses are means over each one's runs.
LatentEffect paired_effect(std::span<const PositionLosses* const> model,
                           std::span<const PositionLosses* const> against,
                           const LatentEffectOptions& options);
/// The effect of one model beside its own base.
LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options);

}  // namespace reverie
