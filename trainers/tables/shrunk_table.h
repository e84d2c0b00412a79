#pragma once
/// --shrink K for a table: its definition with sizes divided; each run's config is divided when it is
/// planned (trainers/runs/shrunk_experiment.h).

#include "trainers/runs/shrunk_experiment.h"
#include "trainers/tables/table_kind.h"

namespace reverie {

/// Divides the number of seeds and the sizes of measurements of `preset`; its base becomes one with
/// random weights, which write_shrunk_base() makes. The title says by how much. What the table compares
/// (models, numbers of latents, block sizes, delays) stays. ConfigError for a kind that cannot be
/// shrunk, and for a base whose shape is not known.
Config shrunk_table(const Config& table, const std::string& preset, const Shrinking&);

/// The "kind" that a table's file names; "" where it is no string.
std::string kind_of_table(const Config& table);

/// How the runs of such a table are shrunk (`by` 1: not at all), whose files lie in `table_directory`.
Shrinking shrinking_of(const std::string& kind, int64_t by, const std::string& table_directory,
                       bool makes);

/// Makes the base that shrunk_table() put into this preset, where it is not there yet.
void write_shrunk_base(const Config& shrunk_table, const std::string& preset);

}  // namespace reverie
