#pragma once
// A small registry for the tests of configs, registries and plugins.

#include <memory>
#include <string>

#include "core/registry.h"

namespace reverie {

struct Gadget {
  virtual ~Gadget() = default;
  virtual std::string describe() const = 0;
};
using GadgetRegistry = Registry<Gadget, int>;
template <>
GadgetRegistry& GadgetRegistry::instance();  // test_registry.cpp

}  // namespace reverie
