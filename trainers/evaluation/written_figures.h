#pragma once
/// How much of a memory a decoder puts into words, beside the same decoder with other memories.

#include <optional>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "trainers/evaluation/carried_losses.h"
#include "trainers/runs/explained_model.h"

namespace reverie {

class ForwardAudit;

/// With one memory in the decoder's hands. Marks do not count as tokens.
struct WrittenFigures {
  std::string memory;  ///< "own", "swapped", "wiped"
  /// Sums of the losses of each record's words, nats, each word behind the true ones before it.
  std::vector<double> losses;
  int64_t right = 0;  ///< words that are the likeliest ones there
  /// Pieces of what the decoder writes by itself, likeliest words alone, that are what they should be
  /// at their place: facts, and the answer behind them; of a recount, words.
  int64_t exact = 0;
  int64_t whole = 0;  ///< records of which everything is
  Json json() const;
};

struct WrittenMeasurement {
  std::vector<int64_t> words;  ///< of each record
  int64_t pieces = 0;
  bool facts = false;                    ///< pieces are facts, not words
  std::vector<WrittenFigures> memories;  ///< the text's own first
  int64_t records() const { return int64_t(words.size()); }
  int64_t all_words() const;
  /// Nats for each word with the memory `i`.
  double loss(size_t i) const;
  const WrittenFigures* find(const std::string& memory) const;
  Json json() const;
  static WrittenMeasurement from_json(const Json& json);
};

/// Records of the validation part, at most so many (0: all), evenly spaced. Swapped: each gets the
/// memory of the record half of them all away. A decoder that reads nothing has its own figures alone.
/// `audit` (may be null) audits, with each memory, the reading of a few records and the scores of
/// their words. UserError where the data have no records, or fewer than two.
WrittenMeasurement measure_written(ExplainedModel& model, const Dataset& data, int64_t records,
                                   int64_t batch_size, const EvaluationProgress& progress = {},
                                   ForwardAudit* audit = nullptr);

/// What another memory, or another decoder on the same records, changes: its losses less those of
/// `carried`, with the 95 % interval over records.
LossChange change_of_losses(const WrittenMeasurement& measured, const std::vector<double>& carried,
                            const std::vector<double>& changed);

}  // namespace reverie
