#pragma once
/// What the runs of a table take on so many ranks, and on a named GPU.

#include <string>
#include <vector>

#include "trainers/tables/table_kind.h"

namespace reverie {

struct CostOptions {
  int ranks = 1;             ///< processes that train one run together
  std::string gpu;           ///< of gpu_rates(); "": no hours
  double utilisation = 0.4;  ///< of its data sheet's rate
};

/// A line for each cell (its first seed), and what all runs take one after another. Each is planned by
/// plan_run(); a base that is not there yet is built by the shape that the kind knows of it
/// (TableKind::planned_base()). A run that cannot be planned says why, and the sum says so.
std::string table_costs(const TableFile&, const TableKind&, const std::vector<PlannedRun>&,
                        const CostOptions&);

}  // namespace reverie
