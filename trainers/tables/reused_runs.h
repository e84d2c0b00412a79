#pragma once
/// Finished runs that a table takes over: whether they are the runs that it plans.

#include <filesystem>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "trainers/runs/experiment.h"
#include "trainers/tables/table_kind.h"

namespace reverie {

/// A run's directory is named by its config when it is planned; since then it may have been trained
/// on, or other files were put there.
class ReusedRuns {
 public:
  /// `directory`: where the table's file lies, as for read_experiment().
  explicit ReusedRuns(std::string directory) : directory_(std::move(directory)) {}

  /// DataError unless the finished run in this directory is the planned one: its config where that
  /// decides figures, the run and the tokens that its summary names, and the base that it was
  /// trained beside or from, where that is there. A base is hashed once for each hash that runs
  /// name.
  void require_planned(const PlannedRun& run);
  /// The same for all that have finished.
  void require_planned(const std::vector<PlannedRun>& runs);

 private:
  void require_base(const PlannedRun& run, ExperimentOptions stored, const std::string& base);

  std::string directory_;
  /// Bases that are as a run names them: path, time of change, hash.
  std::set<std::tuple<std::string, std::filesystem::file_time_type, std::string>> known_bases_;
};

}  // namespace reverie
