#pragma once
/// What a run of a table is, and where its directory lies.

#include <map>
#include <optional>
#include <string>

#include "trainers/tables/repro.h"
#include "trainers/tables/shrunk_table.h"

namespace reverie {

/// By what the runs of a table of this kind are shrunk.
Shrinking shrinking_of_runs(const std::string& kind, const ReproOptions& options);

/// Says where a run's directory will lie: by everything that decides what it will hold. Where the
/// table itself lies is no part of it: a table may be moved, and its runs may be trained in several
/// places.
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
