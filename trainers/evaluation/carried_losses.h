#pragma once
/// Losses of texts that are read in consecutive windows: with the memory carried from window to
/// window, and with other memory in its place.

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "datasets/passages.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {

/// Losses of the same predictions, nats, with carried memory and with another, summed.
struct PairedSums {
  double carried = 0, changed = 0, targets = 0;
  void add(const PairedSums& more) {
    carried += more.carried;
    changed += more.changed;
    targets += more.targets;
  }
  double change() const { return (changed - carried) / targets; }
};

/// The mean change of a loss, and its interval where there are two texts or more.
struct LossChange {
  /// A smaller change (0.1 % of perplexity) is no use of a memory, however sure it is.
  static constexpr double kLeast = 1e-3;
  double mean = 0;                  ///< nats per prediction
  std::optional<double> low, high;  ///< 95 %: Student's t over texts
  int64_t texts = 0, predictions = 0;
  bool rises() const { return low && *low > kLeast; }
  bool falls() const { return high && *high < -kLeast; }
  /// "+0.0123 [+0.0100, +0.0150] nats".
  std::string text() const;
  Json json() const;
};
/// The change over all texts is a ratio of sums: its error follows from how far each text is from it
/// (Cochran, "Sampling techniques", 1977, 6.3).
LossChange loss_change(const std::vector<PairedSums>& texts);

/// Replaces the memory that was carried to a text's later windows.
struct OtherMemory {
  std::string name;
  /// `carried`: what the rows carried to this window; `first`: what they carried out of their first
  /// one. nullopt: this window is not asked. `window` >= 1; an empty state is a clean one.
  std::function<std::optional<MemoryState>(const MemoryState& carried, const MemoryState& first,
                                           int64_t window)>
      begin;
};
/// A clean memory at every window.
OtherMemory reset_memory();
/// What the text beside it carried to the same window; not asked where no text is beside it.
OtherMemory swapped_memory();

struct CarriedLosses {
  double loss = 0;          ///< nats per prediction, memory carried
  int64_t predictions = 0;  ///< 0: no window holds a target, and there is no loss
  int64_t texts = 0, windows = 0;
  bool documents = false;  ///< texts are documents, not pieces of one
  struct Other {
    std::string name;
    /// Only windows that `begin` asked for count; none is a text's first.
    std::vector<PairedSums> by_text, by_position;
    PairedSums all() const;
    LossChange change() const { return loss_change(by_text); }
  };
  std::vector<Other> others;
};

/// Eval mode. Every window behind a text's first is read once from carried memory, which goes on to
/// the next, and once from each other one. A collective; all ranks get the result of a single one.
/// `audit` (may be null) audits some of the forwards. DivergedError when a loss is not finite;
/// Interrupted as evaluate().
CarriedLosses read_carried(LanguageModel& model, const ConsecutiveWindows& windows,
                           const std::vector<OtherMemory>& others,
                           Communicator& communicator = single_communicator(),
                           const EvaluationProgress& progress = {}, ForwardAudit* audit = nullptr);

/// The loss with memory carried, beside that of the same windows with a clean memory at each.
struct CarriedResult {
  double loss = 0, loss_reset = 0;
  LossChange change;  ///< of later windows, by resetting
  int64_t predictions = 0, texts = 0, windows = 0;
  bool documents = false;
  /// Mean losses of later windows by position in the window, 64 ranges of positions at most.
  struct Positions {
    int64_t first = 0, last = 0;  ///< counted from 1
    double carried = 0, reset = 0;
  };
  std::vector<Positions> by_position;
  /// "12 documents, 140 windows".
  std::string where() const;
  Json json() const;
};
CarriedResult evaluate_carried(LanguageModel& model, const ConsecutiveWindows& windows,
                               Communicator& communicator = single_communicator(),
                               const EvaluationProgress& progress = {},
                               ForwardAudit* audit = nullptr);
/// CarriedResult::loss_reset by itself: no window is read with memory carried to it.
EvaluationResult evaluate_reset(LanguageModel& model, const ConsecutiveWindows& windows);

}  // namespace reverie
