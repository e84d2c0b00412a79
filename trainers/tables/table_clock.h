#pragma once
/// How long the rest of a table will take.

#include <cstdint>
#include <string>
#include <vector>

namespace reverie {

/// Knows of each planned run which cell it is of and how many steps it has. Runs of the same cell
/// and length take the same time; one of another length, such as a cell's own after its trials, the
/// cell's time of a step; of a cell that none has finished yet, the mean over all stands in.
class TableClock {
 public:
  struct Run {
    std::string cell;
    int64_t steps = 0;
    bool wanted = true;  ///< false: it will not be trained now
  };
  explicit TableClock(std::vector<Run> runs) : runs_(std::move(runs)) {}

  /// The run took so long, evaluation and all; of one reused, what its summary says.
  void finished(size_t run, double seconds);
  /// What runs after this one will take, when this one takes `seconds` in all.
  double seconds_after(size_t run, double seconds) const;

 private:
  std::vector<Run> runs_;
  struct Known {
    std::string cell;
    int64_t steps = 0;
    double seconds = 0;
  };
  std::vector<Known> known_;
};

}  // namespace reverie
