#pragma once
/// The weights of a table's finished run in Hugging Face's form, for runs that begin with them.

#include <string>

#include "trainers/runs/stored_run.h"

namespace reverie {

/// Where it lies in a run directory.
std::string export_of(const std::string& run_directory);
/// Whether it is there, made from the run's newest checkpoint.
bool is_exported(const std::string& run_directory);
/// Makes it, whole or not at all, in place of an earlier one.
void export_run(const LoadedRun& run, const std::string& run_directory);

}  // namespace reverie
