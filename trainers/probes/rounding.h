#pragma once
/// How far rounding alone may move a model's logits: the line between a leak and arithmetic.

#include <string>

#include "layers/language_model.h"

namespace reverie {

/// Both bounds are for logits of size 1; multiply by max(1, largest |logit|).
///
/// A logit lies behind d products, one for each weight matrix at most, of sums of at most n terms
/// (the widest matrix's smaller side, or the rows that attention reads). A sum of n terms in another
/// order differs by about sqrt(n) u relative to its size (Higham and Mary 2019, "A new approach to
/// probabilistic rounding error analysis"; u = 2^-24 in f32, 2^-53 in f64), and d products in a row
/// add their errors at worst. Behind latents a logit's way leads through the base when it reads the
/// text, in each forward that makes latents of it (LatentSource::base_forwards()), and when it reads
/// them, and the base's matrices count as often. With u as above:
///   same_shape    d sqrt(n) u: both sides run the same operations on the same rows, so that nothing
///                 need differ; only what subtracts later rows again (a transform over the whole
///                 text) rounds otherwise
///   other_shape   8 d sqrt(n) u: products of other shapes add in other orders, each of them; 8
///                 standard deviations, over millions of logits
/// A ThinkingModel's logit behind k thoughts lies behind k + 1 forwards. Each thought ends a pass, so
/// that thoughts in other places give the same rows other shapes: same_shape is other_shape there.
struct Rounding {
  double same_shape = 0, other_shape = 0;
  std::string text;  ///< "f32, 17 products of at most 128 terms"
};

/// `length`: rows of a text; `thoughts`: of a ThinkingModel, in one text. Products in bf16 round
/// their operands alike on both sides, so that sums are what may differ, and they are f32.
Rounding rounding_of(LanguageModel& model, int64_t length, int64_t thoughts = 0);
/// That of texts i32 [B, T], whose thoughts are counted.
Rounding rounding_of(LanguageModel& model, const Tensor& texts);

/// By how much the mean loss of `targets` tokens may differ where logits may by `bound` (for logits
/// of size 1). A loss is a logit less the logarithm of a sum of logits' exponentials, so that it
/// errs by twice a logit's rounding, and grows with the largest loss; errors of n targets are
/// independent enough for the mean to err by 1 / sqrt(n) of one target's. The sum itself, in
/// double, errs by at most n 2^-53 of the mean.
double allowed_in_mean(double bound, double largest_loss, double targets);

}  // namespace reverie
