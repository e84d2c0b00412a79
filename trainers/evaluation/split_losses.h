#pragma once
/// The losses of one evaluation: of both splits, prefix by prefix, and behind latents.

#include <functional>
#include <optional>
#include <string>

#include "datasets/dataset.h"
#include "datasets/passages.h"
#include "trainers/evaluation/canary.h"
#include "trainers/evaluation/carried_losses.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {

/// The windows that an evaluation reads.
struct EvaluationSplits {
  /// `count` windows of validation (0: all) and as many of train; `prefix_count` of validation that
  /// are scored prefix by prefix. UserError where none fits.
  EvaluationSplits(const Dataset&, int64_t batch_size, int64_t block_size, int64_t count,
                   int64_t prefix_count);
  EvaluationWindows validation, train, prefix;
  /// Those of validation, text by text, where it is a mix; else empty. Texts of which none is read are
  /// left out.
  struct Entry {
    std::string name;
    EvaluationWindows windows;
  };
  std::vector<Entry> entries;
  std::optional<ConsecutiveWindows> texts;  ///< carried_texts(), where they are to be read
};

/// About `count` windows of validation (0: all), one behind the other, for a model that carries
/// memory from one to the next; absent for others.
std::optional<ConsecutiveWindows> carried_texts(const Dataset&, const LanguageModel&,
                                                int64_t batch_size, int64_t count);

/// The loss of one text of a mix.
struct EntryLoss {
  std::string entry;
  EvaluationResult result;
};
/// Teacher-forced, of the validation windows.
struct ValidationLosses {
  EvaluationResult all;
  std::vector<EntryLoss> entries;  ///< whose mean `all` is; empty: no mix
};
ValidationLosses evaluate_validation(LanguageModel& model, const EvaluationSplits& splits,
                                     Communicator& communicator = single_communicator(),
                                     const EvaluationProgress& progress = {},
                                     ForwardAudit* audit = nullptr);
/// [{"entry", "loss", "predictions"}, ...]; null where there are none.
Json entries_json(const std::vector<EntryLoss>& entries);

struct SplitLosses {
  EvaluationResult train, validation;  ///< teacher-forced
  std::vector<EntryLoss> entries;      ///< of validation, whose mean is over them; empty: no mix
  PrefixScores prefixes;
  std::optional<AugmentedResult> augmented;  ///< of validation, behind latents; absent without any
  std::optional<CarriedResult> carried;      ///< of validation; absent where no memory is carried
};

/// A collective. `audit` audits some of the forwards; then `score` scores splits.prefix, and asks
/// whatever else it wants to ask of the model.
/// A line of the terminal says how far it is, after `what`. DivergedError when a loss is not finite.
SplitLosses evaluate_splits(LanguageModel& model, const EvaluationSplits& splits,
                            Communicator& communicator, const std::string& what,
                            ForwardAudit& audit, const std::function<PrefixScores()>& score);

}  // namespace reverie
