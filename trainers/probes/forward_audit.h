#pragma once
/// Audits the forwards that numbers come through. Before such a forward, a copy of this process
/// computes a few of its rows from nothing but the text up to them. The copy has the live model as
/// it is at that moment: its counters, caches and statics, none of which has seen the rest of the
/// text unless an earlier forward showed it. Where there can be no copy (a GPU, several ranks, a
/// copy that failed), this process computes the rows itself, before the forward: the verdict says
/// so.

#include <functional>
#include <string>
#include <vector>

#include "core/random.h"
#include "datasets/passages.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/probes/movement.h"
#include "trainers/probes/rounding.h"

namespace reverie {

class ForwardAudit {
 public:
  /// `turn`: which batches between the first and the last are audited, and which rows. With several
  /// ranks there is no copy: that of one would lack the threads of the others.
  ForwardAudit(int64_t step, int64_t turn, int ranks = 1);
  /// The audit of a command that evaluates once: up to kOnceBetween batches between the first and
  /// the last.
  static ForwardAudit once(int64_t step);
  static constexpr int64_t kOnceBetween = 6;

  /// Whether batch `i` of this rank's `batches` is audited: the first, the last (which may be of
  /// another shape), and some between them.
  bool audits(int64_t i, int64_t batches) const;
  /// model.hidden(tokens, state), audited. The copy computes a few rows of a large batch, which begin
  /// from the same state (may be null); it costs at most as much as the forward does.
  Variable hidden(LanguageModel& model, const Tensor& tokens, SequenceState* state = nullptr);
  /// model.ahead_hidden(tokens, points), audited: one group of two texts in separate forwards. With
  /// `others` i32 [B, T], the latents are made of these texts, at the same offsets.
  Variable ahead_hidden(AugmentedModel& model, const Tensor& tokens, const InsertionPoints& points,
                        const Tensor& others = {});

  /// Texts whose hidden states [B, T, C] come about in another way than by hidden().
  struct OneByOne {
    std::string probe;           ///< "... against a copy that saw a prefix"
    std::vector<int64_t> first;  ///< first row of each text that has a meaning
    int64_t time = 0;            ///< T
    Rounding rounding;
    /// [1, length, C]: of one text's first `length` tokens, without the other texts.
    std::function<Variable(int64_t text, int64_t length)> alone;
    std::function<Variable()> all;
  };
  /// texts.all(), audited: a copy computes a row of a few texts, each of them by itself.
  Variable one_by_one(LanguageModel& model, const OneByOne& texts);

  /// Texts that are read in consecutive windows with their memory carried. Before the first window,
  /// a copy reads one of them alone, from a clean memory, each window cut off behind a row: neither
  /// later windows nor the texts beside it are there. Its first windows are compared, and of later
  /// ones some as by hidden(), beside the memory that was carried to them.
  class Reading {
   public:
    Reading(ForwardAudit& audit, LanguageModel& model, const ConsecutiveWindows& windows,
            int64_t group);
    /// model.hidden(tokens, &state): window `window` of the group.
    Variable hidden(const Tensor& tokens, SequenceState& state, int64_t window);

   private:
    struct Window {
      Tensor tokens;    ///< of the text, [1, T]
      int64_t cut = 0;  ///< the copy saw so many of them
      std::vector<double> alone;
    };
    void read_alone();

    ForwardAudit& audit_;
    LanguageModel& model_;
    int64_t row_ = 0;
    std::vector<Window> windows_;
    std::vector<int64_t> later_;  ///< windows that hidden() audits
    std::string probe_;
  };

  /// What was found so far.
  const Verdict& verdict() const { return verdict_; }

 private:
  /// Why there can be no copy of this process; "" where there can.
  std::string no_copy_of(const LanguageModel& model) const;
  /// The values of `alone`, at most `most`, from a copy, or else from this process, which `probe`
  /// and the verdict then say.
  std::vector<double> values_alone(const LanguageModel& model, std::string& probe, size_t most,
                                   const std::function<std::vector<double>()>& alone);

  /// The result of `forward`. `compared`: rows of it, each with a piece of `length` rows that `alone`
  /// computes in the copy (f64 [pieces, length, C]).
  Variable audited(LanguageModel& model, std::string probe, const std::string& site,
                   const Rounding& rounding, const std::vector<ComparedRows>& compared,
                   int64_t length, const std::function<std::vector<double>()>& alone,
                   const std::function<Variable()>& forward);

  int64_t step_, turn_, between_ = 1;
  int ranks_;
  Generator random_;
  Verdict verdict_;
};

}  // namespace reverie
