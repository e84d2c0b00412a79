#pragma once
/// Trials of learning rates among the runs of a table of latents: named as its runs are, shorter,
/// and in none of its figures.

#include <string>

namespace reverie {

/// A table of latents keeps its measurement of each run in this file of the run.
inline constexpr const char* kLatentEffectFile = "latent_effect.json";
/// The value of "texts" in its "of", where the run was a trial.
inline constexpr const char* kTextsOfTrials = "every fourth";

/// Whether a table measured this run as a trial. DataError for a damaged measurement.
bool measured_as_trial(const std::string& run_directory);

}  // namespace reverie
