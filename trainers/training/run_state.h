#pragma once
/// How far a run has come.

#include <cmath>
#include <cstdint>
#include <optional>

namespace reverie {

struct RunState {
  int64_t step = 0, tokens = 0;  ///< finished steps, and their target tokens
  double seconds = 0;            ///< of training steps, over all resumptions
  bool evaluation_due = false;   ///< a signal came while this step was evaluated
  struct Best {
    int64_t step = 0;
    double val_loss = 0;
  };
  std::optional<Best> best;  ///< the lowest validation loss, with checkpoint.keep_best

  std::optional<int64_t> best_step() const {
    return best ? std::optional(best->step) : std::nullopt;
  }
  bool is_best() const { return best && best->step == step; }
  /// Compares what is comparable: the loss on the windows that are evaluated during training.
  void note_val_loss(double val_loss) {
    if (std::isfinite(val_loss) && !(best && best->val_loss <= val_loss))
      best = Best{step, val_loss};
  }
};

}  // namespace reverie
