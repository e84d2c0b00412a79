#pragma once
/// Verdict: what is known of whether a run's numbers come from what the model may see. It travels
/// with the numbers: in checkpoints, summaries, metrics, tables and on the terminal.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace reverie {

class Communicator;

/// Stands beside every number of a run that leaks.
inline constexpr const char* kLeakLabel = "LEAKS";

/// One comparison whose two sides may differ by rounding alone.
struct Movement {
  std::string probe;  ///< what was changed: "other tokens behind the cut, train mode"
  std::string where;  ///< "12 x 64 tokens, row 2, position 17, cut 18"
  double change = 0;  ///< largest |difference| of a logit or loss; infinite where one side alone is
                      ///< not a number
  double allowed = 0;  ///< rounding
  int64_t step = 0;    ///< finished training steps
  bool leaks() const { return !(change <= allowed); }
  /// Whether this one says more: a leak before none, then the larger change / allowed.
  bool graver_than(const Movement& other) const;
};

/// A value that grows by merge() alone. Monotone: what leaked once leaks for ever; only a new run
/// begins anew. merge() is commutative, associative and idempotent, so that ranks, resumptions and
/// commands may add what they know in any order.
class Verdict {
 public:
  /// Notes that `probe` was made at `step`, and its largest movement.
  void add(const Movement& movement);
  /// What no probe of this run covers, in words; kept until something probes it.
  void add_not_probed(const std::string& what);
  void merge(const Verdict& other);
  /// Says that the run's sizes are those of an experiment divided by so much (--shrink).
  void set_shrunk(int64_t by);

  bool asked() const { return !steps_.empty(); }
  bool leaks() const { return first_leak_.has_value(); }
  bool causal() const { return asked() && !leaks(); }
  const std::vector<int64_t>& steps() const { return steps_; }
  const std::vector<std::string>& probed() const { return probed_; }
  const std::vector<std::string>& not_probed() const { return not_probed_; }
  /// The gravest of all movements; absent before anything was asked.
  const std::optional<Movement>& largest() const { return largest_; }
  /// The earliest leak, and the last step before it at which none was found.
  const std::optional<Movement>& first_leak() const { return first_leak_; }

  /// "", "LEAKS", "shrunk by 64" or "LEAKS, shrunk by 64".
  std::string label() const;
  /// "", or the label's part of a run that was shrunk.
  std::string shrunk_label() const;
  /// "causal", "unknown" or "LEAKS", and how much the run was shrunk: a column of tables.
  std::string word() const;
  /// The label of a number of step `step`: of earlier numbers than the first leak nothing is known,
  /// "LEAKS (unknown before step 250)".
  std::string label_at(int64_t step) const;
  /// The label behind a number in a line of text: "  LEAKS" or "".
  std::string mark() const { return label().empty() ? "" : "  " + label(); }
  /// The printed form, one line: "causal: ...", "LEAKS: ..." or "unknown: ...".
  std::string line() const;

  Json json() const;
  /// DataError when it is none.
  static Verdict from_json(const Json& json);
  /// Of a JSON object (state.json, summary.json) that holds "verdict"; one written before there were
  /// verdicts has "label", or "causal": false, where the model leaked.
  static Verdict of_file(const Json& object);

 private:
  std::vector<int64_t> steps_;                    ///< rising
  std::vector<std::string> probed_, not_probed_;  ///< sorted
  std::optional<Movement> largest_, first_leak_;
  int64_t shrunk_by_ = 1;
};

/// What all ranks know together; a collective.
Verdict agreed_verdict(const Verdict& mine, Communicator& communicator);

}  // namespace reverie
