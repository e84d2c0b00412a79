#pragma once
// Leaks of many kinds, each as a small memory module or source of latents: the attack list. What
// they have in common is the peek (row t reads row t + 1, or a latent reads behind its limit); each
// does it only where it hopes that nobody looks.

#include <string>
#include <vector>

#include "core/config.h"

namespace reverie::testing {

// A memory {"type": "test_attack", "kind": KIND}.
struct Attack {
  const char* kind;
  const char* what;
  // Where the gate must find it: before the first step ("start"), or at the evaluation after so
  // many steps.
  int64_t found_at = 0;
  const char* patch = "{}";  // of the experiment
  // The same where the gate asks in short forms, as it does of large models; the verdict then says
  // what it left out before the first step. -1: found_at.
  int64_t found_at_in_short = -1;
};
const std::vector<Attack>& memory_attacks();
// A source of latents {"type": "test_latent_attack", "kind": KIND}.
const std::vector<Attack>& latent_attacks();

// Forgets what attacks count over all models of the process. `calls`: so many in train mode (five
// times as many forwards of all models) let an attack that counts begin.
void reset_attacks(int64_t calls = 50);

}  // namespace reverie::testing
