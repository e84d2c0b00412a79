#include "layers/kept_weights.h"

#include <fmt/format.h>

#include <set>

#include "core/compact_weights.h"

namespace reverie {

KeptWeights kept_weights(const Module& module) {
  KeptWeights kept;
  std::set<const void*> seen;  // a tied head is the embedding table
  for (const auto& [name, parameter] : module.parameters()) {
    const Tensor& t = parameter.tensor();
    if (!seen.insert(parameter.impl().get()).second) continue;
    kept.bytes += int64_t(stored_bytes(t));
    kept.wide += int64_t(t.bytes());
    kept.compact += is_compact(t);
  }
  return kept;
}

std::string kept_in_words(const KeptWeights& kept) {
  const auto megabytes = [](int64_t bytes) { return double(bytes) / 1e6; };
  return fmt::format("kept in {:.4g} MB as their file has them ({:.4g} MB in f32)",
                     megabytes(kept.bytes), megabytes(kept.wide));
}

}  // namespace reverie
