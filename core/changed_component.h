#pragma once
/// A copy of a component with other options, without a way through JSON.

#include <functional>

#include "core/registry.h"

namespace reverie {

/// A copy of `component` (resolved, of this registry) whose options `change` has changed. They are
/// checked again: ConfigError names every value outside its field's range or choices, or else every
/// rule that does not hold.
Component changed_component(const RegistryBase& registry, const Component& component,
                            const std::function<void(Fieldset&)>& change);

}  // namespace reverie
