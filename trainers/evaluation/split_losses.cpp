#include "trainers/evaluation/split_losses.h"

#include <algorithm>
#include <nlohmann/json.hpp>

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

std::vector<EvaluationSplits::Entry> entries_of(const EvaluationWindows& windows,
                                                const std::optional<MixLayout>& mix) {
  std::vector<EvaluationSplits::Entry> found;
  if (!mix || mix->entries.size() < 2) return found;
  for (const MixLayout::Entry& entry : mix->entries) {
    const auto is_its = [&](int64_t window) {
      const int64_t start = windows.window_start(window);
      return std::any_of(entry.shards.begin(), entry.shards.end(), [&](const auto& shard) {
        return start >= shard.first && start < shard.first + shard.count;
      });
    };
    bool any = false;
    for (int64_t i = 0; i < windows.window_count() && !any; ++i) any = is_its(i);
    if (any) found.push_back({entry.name, windows.where(is_its)});
  }
  return found;
}

// The mean over all targets, whichever text they are of.
EvaluationResult mean_of(const std::vector<EntryLoss>& entries) {
  EvaluationResult all;
  for (const EntryLoss& e : entries) {
    all.loss += e.result.loss * double(e.result.targets);
    all.targets += e.result.targets;
  }
  all.loss /= double(all.targets);
  return all;
}

}  // namespace

Json entries_json(const std::vector<EntryLoss>& entries) {
  Json out;
  for (const EntryLoss& e : entries)
    out.push_back({{"entry", e.entry}, {"loss", e.result.loss}, {"predictions", e.result.targets}});
  return out;
}

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
      prefix(validation_of(data, batch_size, block_size, prefix_count)),
      entries(entries_of(validation, data.validation_mix)) {}

ValidationLosses evaluate_validation(LanguageModel& model, const EvaluationSplits& splits,
                                     Communicator& communicator, const EvaluationProgress& progress,
                                     ForwardAudit* audit) {
  ValidationLosses out;
  for (const EvaluationSplits::Entry& e : splits.entries)
    out.entries.push_back({e.name, evaluate(model, e.windows, communicator, progress, audit)});
  out.all = out.entries.empty() ? evaluate(model, splits.validation, communicator, progress, audit)
                                : mean_of(out.entries);
  return out;
}

SplitLosses evaluate_splits(LanguageModel& model, const EvaluationSplits& splits,
                            Communicator& communicator, const std::string& what,
                            ForwardAudit& audit, const std::function<PrefixScores()>& score) {
  Activity activity(what + ": train");
  const EvaluationProgress progress = [&](int64_t done, int64_t all) { activity.reach(done, all); };
  SplitLosses losses;
  losses.train = evaluate(model, splits.train, communicator, progress, &audit);
  activity.now(what + ": validation");
  ValidationLosses validation = evaluate_validation(model, splits, communicator, progress, &audit);
  losses.validation = validation.all;
  losses.entries = std::move(validation.entries);
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
