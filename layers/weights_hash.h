#pragma once
/// The hash by which weights are known.

#include <string>

#include "core/safetensors.h"

namespace reverie {

/// XXH3-128 (32 hexadecimal digits) of names, shapes, dtypes and bytes, in this order; "" in a dry run.
std::string hash_of_weights(const NamedTensors& weights);

}  // namespace reverie
