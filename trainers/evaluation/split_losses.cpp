#include "trainers/evaluation/split_losses.h"

#include "core/log.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

EvaluationWindows validation_of(const Dataset& data, int64_t batch_size, int64_t block_size,
                                int64_t count) {
  return EvaluationWindows::over(data.validation, data.validation_rule(), batch_size, block_size,
                                 count);
}

}  // namespace

std::optional<ConsecutiveWindows> carried_texts(const Dataset& data, const LanguageModel& model,
                                                int64_t batch_size, int64_t count) {
  const bool latents = dynamic_cast<const AugmentedModel*>(&model) != nullptr;
  if (!model.carries_memory() || latents || data.examples) return std::nullopt;
  return ConsecutiveWindows(data.validation, data.documents, batch_size, model.block_size(), count,
                            data.validation_rule());
}

EvaluationSplits::EvaluationSplits(const Dataset& data, int64_t batch_size, int64_t block_size,
                                   int64_t count, int64_t prefix_count)
    : validation(validation_of(data, batch_size, block_size, count)),
      train(EvaluationWindows::over(data.train, data.train_rule(), batch_size, block_size,
                                    validation.window_count())),
      prefix(validation_of(data, batch_size, block_size, prefix_count)) {}

SplitLosses evaluate_splits(LanguageModel& model, const EvaluationSplits& splits,
                            Communicator& communicator, const std::string& what,
                            ForwardAudit& audit, const std::function<PrefixScores()>& score) {
  Activity activity(what + ": train");
  const EvaluationProgress progress = [&](int64_t done, int64_t all) { activity.reach(done, all); };
  SplitLosses losses;
  losses.train = evaluate(model, splits.train, communicator, progress, &audit);
  activity.now(what + ": validation");
  losses.validation = evaluate(model, splits.validation, communicator, progress, &audit);
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model)) {
    activity.now(what + ": behind latents");
    losses.augmented = evaluate_augmented(*augmented, splits.validation,
                                          InsertionRule::of(*augmented), communicator, &audit);
  }
  if (splits.texts) {
    activity.now(what + ": memory carried");
    const CarriedResult carried =
        evaluate_carried(model, *splits.texts, communicator, progress, &audit);
    if (carried.predictions > 0)
      losses.carried = carried;
    else if (communicator.first())
      log_warning(
          "no loss with memory carried: none of {} windows holds a target (a larger "
          "$.evaluation.windows reads more of them)",
          carried.windows);
  }
  activity.now(what + ": prefix-only, and the causality probe");
  losses.prefixes = score();
  return losses;
}

}  // namespace reverie
