#pragma once
/// The weights of a table's finished run in Hugging Face's form, for runs that begin with them.

#include <string>

#include "trainers/runs/stored_run.h"

namespace reverie {

/// Where it lies in a run directory.
std::string export_of(const std::string& run_directory);
/// Whether it is still to be made from the run's newest checkpoint. Never of a run that has none:
/// it was kept without its weights.
bool export_is_due(const std::string& run_directory);
/// Makes it, whole or not at all, in place of an earlier one.
void export_run(const LoadedRun& run, const std::string& run_directory);

}  // namespace reverie
