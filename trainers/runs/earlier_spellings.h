#pragma once
/// Configs of earlier versions in today's spelling.

#include "core/config.h"

namespace reverie {

/// An experiment's JSON, as a user wrote it or as a run directory resolved it. The keys
/// minimum_learning_rate, warmup_steps and decay_steps of `optimizer` go to optimizer.schedule,
/// which is then a cosine; the optimizer is then an adamw. ConfigError, with today's spelling, where
/// such a key stands beside a schedule of its own.
Json in_current_spelling(Json experiment);

/// The `optimizer` of a resolved config as version 0.1's first configs had it, where those could say
/// it (adamw with a cosine), else as it is. Tables name the directories of their runs by a hash of
/// it, and must find runs of earlier versions.
Json optimizer_in_first_spelling(const Json& optimizer);

}  // namespace reverie
