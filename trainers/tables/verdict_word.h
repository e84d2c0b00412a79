#pragma once
/// The column "verdict" of tables.

#include <string>

#include "trainers/runs/verdict.h"

namespace reverie {

/// "causal", "LEAKS" or "unknown", and whether the run was shrunk.
inline std::string verdict_word(const Verdict& verdict) {
  return verdict.word();
}

}  // namespace reverie
