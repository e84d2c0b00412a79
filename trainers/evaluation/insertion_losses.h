#pragma once
/// Losses of the tokens behind insertions: with latents there, and by the base without them.

#include <cstdint>
#include <vector>

#include "datasets/sampler.h"
#include "trainers/distributed/communicator.h"
#include "trainers/evaluation/insertion_rule.h"

namespace reverie {

class ForwardAudit;

/// Losses of one batch, at [text, insertion, position].
struct InsertionLosses {
  Tensor limits;                    ///< i32 [B, G]: tokens before each insertion
  std::vector<double> model, base;  ///< nats; 0 where the batch has no target
  std::vector<char> scored;         ///< whether it has one
};
/// tokens and targets i32 [B, T]. An AugmentedModel scores behind its latents; any other model has
/// none and scores the same tokens from the same true prefix, as `base` does, which may be the
/// AugmentedModel itself. `shuffled`: each text gets latents made, at its own offsets, from the next
/// text of the batch. UserError for a text too short, a delay longer than the rule leaves room for,
/// or shuffled latents without latents or without another text. Call it in an EvaluationMode.
/// `audit` (may be null) audits the forwards, but for those of a model that is its own base:
/// evaluate() makes and audits the same.
InsertionLosses insertion_losses(LanguageModel& model, LanguageModel& base, const Tensor& tokens,
                                 const Tensor& targets, const InsertionRule& rule,
                                 bool shuffled = false, ForwardAudit* audit = nullptr);

/// The mean loss behind insertions, and the base's on the same predictions: nats.
struct AugmentedResult {
  double loss = 0, base_loss = 0;
  int64_t predictions = 0, insertions = 0;
  InsertionRule rule;
  Json json() const;
  /// "positions 1 to 16 after 640 insertions (16 offsets of each text, ...)".
  std::string where() const;
};
/// Sums over texts; the parts of several batches are added.
struct AugmentedSum {
  double loss = 0, base_loss = 0;
  int64_t predictions = 0, insertions = 0;
  AugmentedSum& operator+=(const AugmentedSum&);
  /// UserError without any prediction, DivergedError when a loss is not finite.
  AugmentedResult mean(const InsertionRule& rule) const;
};
/// Adds one batch; texts too short for an insertion add nothing. Call it in an EvaluationMode.
/// `audit` (may be null) audits the forward behind the latents.
AugmentedSum augmented_sum(AugmentedModel& model, const Tensor& tokens, const Tensor& targets,
                           const InsertionRule& rule, ForwardAudit* audit = nullptr);
/// Ranks share the batches of windows, and all get the result, which is the one of a single rank.
AugmentedResult evaluate_augmented(AugmentedModel& model, const EvaluationWindows& windows,
                                   const InsertionRule& rule,
                                   Communicator& communicator = single_communicator(),
                                   ForwardAudit* audit = nullptr);

}  // namespace reverie
