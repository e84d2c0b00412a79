#pragma once
/// Shared libraries that register components when loaded.

#include <map>
#include <string>
#include <vector>

namespace reverie {

/// Grows when the layout or meaning of what a plugin uses (Tensor, Variable, Module, MemoryModule,
/// Fieldset) changes.
#define REVERIE_PLUGIN_API_VERSION 4
inline constexpr int kPluginApiVersion = REVERIE_PLUGIN_API_VERSION;

/// Loads `file` (an absolute path, or looked up beside the config and then by the dynamic linker).
/// The library must export `extern "C" int reverie_plugin_api_version()`; REVERIE_PLUGIN() defines
/// it. UserError when it is absent, does not load, was built for another version, or registers a
/// name that is taken. Loading twice does nothing. Plugins stay loaded.
void load_plugin(const std::string& file, const std::string& config_directory = ".");
std::vector<std::string> loaded_plugins();
/// The plugins that were loaded, by the names of their files without folders: the hash of each, as
/// it was then.
std::map<std::string, std::string> plugin_hashes();

}  // namespace reverie

/// Stands once in a plugin's sources. The version is read from a variable of reverie_core whose name
/// holds it, so that the dynamic linker refuses a plugin for another version before any of the
/// plugin's code has run.
#define REVERIE_PLUGIN_CONCAT_(a, b) a##b
#define REVERIE_PLUGIN_CONCAT(a, b) REVERIE_PLUGIN_CONCAT_(a, b)
#define REVERIE_PLUGIN_API_SYMBOL \
  REVERIE_PLUGIN_CONCAT(reverie_plugin_api_, REVERIE_PLUGIN_API_VERSION)
extern "C" __attribute__((visibility("default"))) const int REVERIE_PLUGIN_API_SYMBOL;
#define REVERIE_PLUGIN()                                                               \
  extern "C" __attribute__((visibility("default"))) int reverie_plugin_api_version() { \
    return REVERIE_PLUGIN_API_SYMBOL;                                                  \
  }                                                                                    \
  static_assert(true, "lets REVERIE_PLUGIN() end with a semicolon")
