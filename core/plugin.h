#pragma once
// Shared libraries that register components when loaded.

#include <string>
#include <vector>

namespace reverie {

// Grows when the layout or meaning of what a plugin uses (Tensor, Variable, Module, MemoryModule, Fieldset) changes.
inline constexpr int kPluginApiVersion = 1;

// Loads `file` (an absolute path, or looked up beside the config and then by the dynamic linker). The library must export
// `extern "C" int reverie_plugin_api_version()`; REVERIE_PLUGIN() defines it. UserError when it is absent, does not load,
// or was built for another version. Loading twice does nothing. Plugins stay loaded.
void load_plugin(const std::string& file, const std::string& config_directory = ".");
std::vector<std::string> loaded_plugins();

}  // namespace reverie

#define REVERIE_PLUGIN() \
  extern "C" __attribute__((visibility("default"))) int reverie_plugin_api_version() { return ::reverie::kPluginApiVersion; }
