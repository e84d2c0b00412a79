#pragma once
/// Proof that packed groups are what they stand for: many insertions in one forward against one
/// forward for each.

#include <string>
#include <vector>

#include "layers/coprocessor/augmented_model.h"

namespace reverie {

struct MaskCheck {
  struct Gradient {
    std::string parameter;
    double difference = 0;  ///< largest, of any element
    double size = 0;        ///< largest element of the separate forwards' gradient
  };
  int64_t groups = 0, targets = 0;
  double packed_loss = 0, separate_loss = 0;  ///< sums over targets, nats
  std::vector<Gradient> gradients;            ///< of every trainable parameter
  std::vector<std::string> without_gradient;  ///< trainable, but nothing reached them

  /// Loss and gradients agree to `tolerance` (relative), and everything that is to be trained is
  /// reached.
  bool ok(double tolerance = 1e-9) const;
  std::string text() const;
};

/// The packed loss of `tokens` i32 [B, T] at the insertion points `limits` i32 [B, G], and its
/// gradients, beside the sum over groups of separate forwards (separate_loss()). What lies behind a
/// prefix is not there at all, so that no mask can fail to hide it. In the model's own precision:
/// use f64. Gradients of the parameters are cleared before and after.
MaskCheck check_mask(AugmentedModel& model, const Tensor& tokens, const Tensor& limits);

/// Parameters that begin at zero (LoRA's B) hide what lies behind them. Draws those that are zero
/// and to be trained, normal around 0, so that the check sees through them.
void draw_zero_parameters(Module& model, Generator& random);

}  // namespace reverie
