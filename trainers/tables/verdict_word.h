#pragma once
/// The column "verdict" of tables.

#include <string>

#include "trainers/runs/verdict.h"

namespace reverie {

/// "causal", "LEAKS" or "unknown".
inline std::string verdict_word(const Verdict& verdict) {
  return verdict.leaks() ? verdict.label() : verdict.asked() ? "causal" : "unknown";
}

}  // namespace reverie
