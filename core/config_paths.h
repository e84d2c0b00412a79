#pragma once
/// The paths in a config.

#include <functional>
#include <string>

#include "core/config.h"

namespace reverie {

/// Calls `change` with every path() in `value`, also inside components; it may alter them.
void each_path(Fieldset& value, const std::function<void(std::string&)>& change);

}  // namespace reverie
