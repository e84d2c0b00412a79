#pragma once
// Audits the forwards that numbers come through. Before such a forward, a copy of this process
// computes a few of its rows from nothing but the text up to them. The copy has the live model as it
// is at that moment: its counters, caches and statics, none of which has seen the rest of the text.

#include <string>

#include "core/random.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/movement.h"

namespace reverie {

class ForwardAudit {
 public:
  // `turn`: which batch between the first and the last is audited, and which rows. With several
  // ranks nothing is: a copy of one would lack the threads of the others. The verdict says so.
  ForwardAudit(int64_t step, int64_t turn, int ranks = 1);

  // Whether batch `i` of this rank's `batches` is audited: the first, the last (which may be of
  // another shape), and one between them.
  bool audits(int64_t i, int64_t batches) const;
  // model.hidden(tokens), audited. The rows in the copy cost at most as much as the forward does.
  Variable hidden(LanguageModel& model, const Tensor& tokens);
  // model.ahead_hidden(tokens, points), audited: one group of two texts in separate forwards.
  Variable ahead_hidden(AugmentedModel& model, const Tensor& tokens, const InsertionPoints& points);

  // What was found so far.
  const Verdict& verdict() const { return verdict_; }

 private:
  // Notes why this forward cannot be audited; false where it can.
  bool refused(const LanguageModel& model, const std::string& probe);

  int64_t step_, turn_;
  int ranks_;
  Generator random_;
  Verdict verdict_;
};

}  // namespace reverie
