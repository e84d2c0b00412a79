#pragma once
/// The cost of a run as columns of `reverie plan`.

#include <string>

#include "trainers/tables/table_kind.h"

namespace reverie {

/// The headings of cost_columns(), as wide as they are.
std::string cost_headings();
/// Parameters, steps, operations and memory; needs neither data nor weights. `directory`: as for
/// read_experiment().
std::string cost_columns(const PlannedRun&, const std::string& directory);

}  // namespace reverie
