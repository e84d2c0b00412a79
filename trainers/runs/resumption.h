#pragma once
/// Compares a resumed run with its config: which values it must keep, and which may change.

#include <string>
#include <vector>

#include "core/config.h"
#include "core/dtype.h"
#include "trainers/runs/run_directory.h"

namespace reverie {

/// The properties of machine and ranks that a resumed run must share with the one before to be
/// bit-exact. Exact sums do not depend on ranks, nor on threads but for products in f32, which the
/// library may add in an order of its own.
Json machine_numerics(bool exact, DType dtype, int ranks);
/// Older checkpoints name more than exact sums depend on, and a single rank by saying nothing.
bool numerics_differ(const Json& before, const Json& now);

/// A config as this version writes it: one of an older run has fewer keys and relative paths.
Json in_todays_form(const Json& config, const std::string& run_directory);
/// The differences that keep a run of resolved config `before` from going on with `now`. A run may
/// get longer, find its base in another place, and change how it is evaluated, sampled, saved,
/// monitored and distributed.
std::vector<std::string> obstacles_to_resuming(Json before, Json now);

/// The part of a resolved config that decides a run's figures: without how it is sampled, saved,
/// monitored and distributed, and without absolute paths, since tokens and bases are known by
/// hashes.
Json config_behind_figures(Json config);
/// Hash of it. summary.json names the config that its figures are of under this key.
std::string config_hash(const Json& config);
inline constexpr const char* kConfigHashKey = "config_hash";
/// After a finished run's config.resolved.json was written again, with keys that an earlier version
/// did not have or a base's new place: its summary is of this config then, if it was of the one
/// before.
void keep_config_hash(const RunDirectory& run, const Json& before, const Json& now);

}  // namespace reverie
