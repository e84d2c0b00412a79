#pragma once
/// Between the registry and the plugin loader.

#include <string>

namespace reverie {

/// Keeps `message` for load_plugin() to throw and returns true, if this thread is loading a plugin.
bool note_error_while_loading_plugin(const std::string& message);

}  // namespace reverie
