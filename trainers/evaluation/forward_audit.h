#pragma once
// Audits the forwards that numbers come through. Before such a forward, a copy of this process
// computes a few of its rows from nothing but the text up to them. The copy has the live model as it
// is at that moment: its counters, caches and statics, none of which has seen the rest of the text.

#include <functional>
#include <string>
#include <vector>

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

  // The result of `forward`. `compared`: rows of it, each with a piece of `length` rows that `alone`
  // computes in the copy (f64 [pieces, length, C]); `time`: tokens of a text, for the bound.
  Variable audited(LanguageModel& model, const std::string& probe, const std::string& site,
                   int64_t time, const std::vector<ComparedRows>& compared, int64_t length,
                   const std::function<std::vector<double>()>& alone,
                   const std::function<Variable()>& forward);

  int64_t step_, turn_;
  int ranks_;
  Generator random_;
  Verdict verdict_;
};

}  // namespace reverie
