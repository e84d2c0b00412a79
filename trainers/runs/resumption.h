#pragma once
/// Compares a resumed run with its config: which values it must keep, and which may change.

#include <string>
#include <vector>

#include "core/config.h"
#include "core/dtype.h"

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

}  // namespace reverie
