#pragma once
/// How much work the gate spends on one question. A small model is asked everything in full; a large
/// one in a short form, and the verdict lists what that leaves out.

#include "layers/coprocessor/augmented_model.h"
#include "layers/language_model.h"

namespace reverie {

/// When the gate asks.
enum class GateMoment { start, evaluation, end };

/// Floating-point operations that a question may take in its full form at this moment.
double full_form_limit(GateMoment moment);
/// Floating-point operations of the largest single forward before the first step.
double first_forward_limit();
/// Cuts of the short form, and of the short form of the end, where all are worth more.
int64_t short_form_forwards(GateMoment moment, double flops_of_forward);

/// Floating-point operations of one forward over `rows` texts of `length` tokens. packed_flops(): of
/// one over texts with `groups` insertion points each.
double forward_flops(const LanguageModel& model, int64_t rows, int64_t length);
double packed_flops(const AugmentedModel& model, int64_t texts, int64_t length, int64_t groups);

/// Floating-point operations of probe_causality() on a copy at full size.
double copy_probe_flops(const LanguageModel& model);
/// The most that such a copy may take; above it, none is made.
double copy_probe_limit();

/// For tests: while alive, every question is asked in its short form, whatever the model's size.
class ShortFormsOnly {
 public:
  ShortFormsOnly();
  ~ShortFormsOnly();
  ShortFormsOnly(const ShortFormsOnly&) = delete;
  ShortFormsOnly& operator=(const ShortFormsOnly&) = delete;
};

}  // namespace reverie
