#pragma once
/// How a model's weights lie in memory.

#include "layers/module.h"

namespace reverie {

struct KeptWeights {
  int64_t bytes = 0;    ///< of all parameters, as they are kept
  int64_t wide = 0;     ///< the same in their own number type
  int64_t compact = 0;  ///< parameters that stay as a file has them (core/compact_weights.h)
};
KeptWeights kept_weights(const Module& module);
/// "kept in 253 MB as their file has them (1,072 MB in f32)".
std::string kept_in_words(const KeptWeights& kept);

}  // namespace reverie
