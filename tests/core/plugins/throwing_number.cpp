// A static initialiser throws what is no std::exception.

#include "core/plugin.h"

REVERIE_PLUGIN();

namespace {
const int value = []() -> int { throw 42; }();
}
extern "C" int throwing_number_value() {
  return value;
}
