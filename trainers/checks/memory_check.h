#pragma once
/// Does a model use its memory? How its loss changes when the memory that was carried to a window is
/// taken away, or replaced by another.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "datasets/passages.h"
#include "layers/language_model.h"
#include "trainers/evaluation/carried_losses.h"

namespace reverie {

struct MemoryCheck {
  enum class Use {
    none,      ///< nothing goes on from window to window
    not_used,  ///< wiping it does not raise the loss, or the model wipes it at every window itself
    any_text,  ///< wiping it does, another text's memory does not
    used
  };
  struct Line {
    std::string name;              ///< "wiped", "swapped", "frozen", "layer 0"
    std::string what;              ///< the same for people
    double loss = 0, carried = 0;  ///< nats per prediction, of the same windows
    LossChange change;             ///< without predictions where no window could be asked
  };
  Use use = Use::none;
  bool carried_in_training = false;
  double loss = 0;  ///< memory carried, of all windows
  int64_t predictions = 0, texts = 0, windows = 0;
  bool documents = false;
  std::vector<Line> lines, layers;  ///< the whole memory, and that of each layer alone

  bool holds() const { return use == Use::used; }
  /// One sentence.
  std::string sentence() const;
  Json json() const;
  /// The table and the sentence; `mark` stands behind every number (Verdict::mark()).
  std::string text(const std::string& mark) const;
};

/// Reads texts with memory carried from window to window, even where the model's own options wipe it
/// at every window: then the figures say what carrying it would do.
/// Every window behind a text's first is read again with the memory
///   wiped     clean, as at a text's beginning
///   swapped   what another text read beside it had carried to the same window
///   frozen    what was carried out of the text's first window (windows from the third on)
///   layer i   as it is, but for that of layer i alone, which is clean
/// Memory used: both wiped and swapped raise the loss, by more than chance and more than
/// LossChange::kLeast: the whole 95 % interval lies above it.
/// UserError for a model with latents, or where fewer than two texts have a second window.
MemoryCheck check_memory(LanguageModel& model, const ConsecutiveWindows& windows,
                         const EvaluationProgress& progress = {}, ForwardAudit* audit = nullptr);

}  // namespace reverie
