#pragma once
/// The page and the JSON of a learning-rate range test.

#include <string>

#include "core/config.h"
#include "trainers/training/learning_rate_range.h"

namespace reverie {

/// "The averaged loss fell fastest at a rate of 0.003, a rate to begin with, ..."
std::string explain_learning_rate(const LearningRateRange& range);
std::string learning_rate_html(const LearningRateRange& range, const std::string& command);
Json learning_rate_json(const LearningRateRange& range);

}  // namespace reverie
