#pragma once
/// Config and directory of each run that a table plans.

#include <map>
#include <optional>
#include <string>

#include "trainers/tables/repro.h"
#include "trainers/tables/shrunk_table.h"

namespace reverie {

/// The divisor of sizes (--shrink) for runs of a table of this kind.
Shrinking shrinking_of_runs(const std::string& kind, const ReproOptions& options);

/// Names a run's directory by a hash of its config and tokens. The table's own place is left out of
/// the hash, so that a table may be moved and its runs trained in several places.
class RunPlanner {
 public:
  /// `common`: the table's base and the preset's patch.
  RunPlanner(const TableFile& table, const ReproOptions& options, Config common);

  /// `config`: of the cell, all patches merged.
  PlannedRun run(const PlannedCell& cell, int64_t seed, Config config);

 private:
  Shrinking shrinking() const { return shrinking_of_runs(table_.definition.type, options_); }
  std::string directory_of(const PlannedCell& cell, int64_t seed, const Json& config,
                           const std::optional<std::string>& data_hash) const;

  const TableFile& table_;
  const ReproOptions& options_;
  TableData table_data_;
  std::string table_data_text_;
  /// By the "data" object: other text under the same name is another run. nullopt: not prepared.
  std::map<std::string, std::optional<std::string>> data_hashes_;
};

}  // namespace reverie
