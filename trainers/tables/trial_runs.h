#pragma once
/// Trials of learning rates among the runs of a table of latents: named as its runs are, shorter,
/// and in none of its figures.

#include <string>

namespace reverie {

/// What a table of latents keeps beside each run that it measured.
inline constexpr const char* kLatentEffectFile = "latent_effect.json";
/// Its "of": {"texts": ...} where the run was a trial; no figure of the table is of these texts.
inline constexpr const char* kTextsOfTrials = "every fourth";

/// Whether a table measured this run as a trial. DataError for a damaged measurement.
bool measured_as_trial(const std::string& run_directory);

}  // namespace reverie
