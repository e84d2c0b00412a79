#pragma once
/// A model with random weights in Hugging Face's form: what stands in for a published base (--shrink).

#include <nlohmann/json.hpp>
#include <string>

#include "core/config.h"

namespace reverie {

/// Writes the model that a config's "model" describes, with its initial weights of seed 1, into
/// `directory`, whole or not at all. Nothing where the directory is there. Texts have a vocabulary of
/// 65 where the model takes that of the data.
void write_random_base(const Json& model, const std::string& directory);

}  // namespace reverie
