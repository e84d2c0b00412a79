#pragma once
/// How far final hidden states of the same rows lie apart, in logits.

#include <string>
#include <vector>

#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// Rows [begin, end) of batch row `row` on both sides; where the moved side is a text by itself, it
/// has other numbers there.
struct ComparedRows {
  int64_t row = 0, begin = 0, end = 0;
  int64_t moved_row = 0, moved_begin = 0;
  std::string note;  ///< "cut 18"
};

/// Collects comparisons of final hidden states. Rows that are equal to the bit need no logits, so
/// that a probe of an honest model costs no product with the vocabulary.
class HiddenMovement {
 public:
  explicit HiddenMovement(LanguageModel& model) : model_(model) {}
  /// base, moved [B, T, C], of any device and dtype. DivergedError where base is not finite: such a
  /// model shows nothing, and above all no leak.
  void compare(const Tensor& base, const Tensor& moved, const std::vector<ComparedRows>& rows,
               const std::string& site);
  /// Largest |difference| of a logit, and the largest |logit| among the rows that moved, at least 1.
  double change() const { return change_; }
  double scale() const { return scale_; }
  int64_t position() const { return position_; }
  int64_t row() const { return row_; }
  const std::string& note() const { return note_; }
  const std::string& where() const { return where_; }
  /// `bound` is for logits of size 1 (rounding_of()).
  Movement movement(const std::string& probe, double bound, int64_t step) const {
    return {probe, where_, change_, bound * scale_, step};
  }

 private:
  LanguageModel& model_;
  double change_ = 0, scale_ = 1;
  int64_t position_ = -1, row_ = -1;
  std::string where_, note_;
};

/// Throws DivergedError, naming `site`, the row and the position, unless all values are finite.
void require_finite(const Tensor& hidden, const std::string& site);

/// Cross entropy of every row of hidden [B, R, C] for targets i32 [B, R], nats (0 where the target
/// is -1), in rows that fit: a large vocabulary makes logits long.
std::vector<double> row_losses(const LanguageModel& model, const Variable& hidden,
                               const Tensor& targets);

}  // namespace reverie
