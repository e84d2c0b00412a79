#pragma once
/// All that a table says of one run with latents, or of one that it is to be compared with: losses
/// by position, and costs.

#include <optional>
#include <string>

#include "trainers/evaluation/latent_effect.h"

namespace reverie {

struct LatentCosts {
  int64_t trainable_parameters = 0;
  /// Forward operations in training for one token of text: the text's own row, and its share of the
  /// groups of latents and ahead tokens.
  double flops_per_token = 0;
  /// Operations of one insertion after a text that was read already; 0 without latents.
  double flops_per_insertion = 0;
  /// From a text of half a window to the logits of its next token, latents included: milliseconds of
  /// one text on this machine, median.
  double latency_ms = 0;
  /// That of the latency, and of the losses beside it; "": an earlier version did not write it.
  std::string device = {};
};

struct LatentMeasurement {
  PositionLosses own;
  std::optional<PositionLosses> shuffled;  ///< with latents of other texts
  LatentCosts costs, base_costs;

  Json json() const;
  static LatentMeasurement from_json(const Json&);  ///< DataError when it is none
};

/// `base`: the untouched one, on the model's device. `shuffled` wants an AugmentedModel. DataError
/// when the base inside an AugmentedModel that does not train it is not the same: it must not have
/// changed. UserError where the two are on different devices. `audit` (may be null) audits forwards
/// of every figure: of model and base, with latents of the text itself and of others.
LatentMeasurement measure_latents(LanguageModel& model, LanguageModel& base,
                                  const EvaluationWindows& windows,
                                  const LatentEffectOptions& options, bool shuffled,
                                  ForwardAudit* audit = nullptr);

}  // namespace reverie
