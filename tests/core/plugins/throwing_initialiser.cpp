// A static initialiser throws: loading it ends the process.

#include <stdexcept>

#include "core/plugin.h"

REVERIE_PLUGIN();

namespace {
const int value = []() -> int { throw std::runtime_error("no luck at start"); }();
}
extern "C" int throwing_initialiser_value() {
  return value;
}
