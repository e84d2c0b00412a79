#include "core/plugin.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/plugin_internal.h"

extern "C" const int REVERIE_PLUGIN_API_SYMBOL = REVERIE_PLUGIN_API_VERSION;

namespace reverie {
namespace {

struct Loaded {
  void* handle;
  std::string file, hash;
};
std::mutex plugins_mutex;
std::vector<Loaded>& plugins() {
  static auto* list = new std::vector<Loaded>;  // never destroyed: plugins stay loaded
  return *list;
}

thread_local bool loading = false;
thread_local std::optional<std::string> loading_error;

void* open_library(const std::string& name) {
  loading = true;
  loading_error.reset();
  // RTLD_NOW: a missing symbol is an error here, with its name, and not in the middle of a run.
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  loading = false;
  return handle;
}

// Loading runs the library's static initialisers: one that throws ends the process, and a truncated
// file ends it by a signal, and neither can be caught here. A child process tries first, and what it
// said on stderr comes back. "": it went well.
std::string failure_of_a_trial(const std::string& name) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return "";  // the trial is a courtesy
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], 2);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) ::signal(signal, SIG_DFL);
    ::alarm(60);
    // dlopen() is declared not to throw, and lets what an initialiser throws pass all the same: by
    // way of a pointer that may throw, it ends here.
    void* (*volatile open)(const char*, int) = ::dlopen;
    try {
      open(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    } catch (...) {
      std::terminate();
    }
    ::_exit(0);  // what dlopen() refuses, the parent reports
  }
  ::close(pipe_ends[1]);
  std::string said;
  char buffer[512];
  ssize_t count = 0;
  while (child > 0 && ((count = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0 ||
                       (count < 0 && errno == EINTR)))
    if (count > 0) said.append(buffer, size_t(count));
  ::close(pipe_ends[0]);
  int status = 0;
  if (child < 0) return "";
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  while (!said.empty() && std::isspace(static_cast<unsigned char>(said.back()))) said.pop_back();
  std::replace(said.begin(), said.end(), '\n', ' ');
  if (!WIFSIGNALED(status)) return "";
  return fmt::format("{}{}{}", ::strsignal(WTERMSIG(status)), said.empty() ? "" : ": ",
                     said.substr(0, 400));
}

}  // namespace

bool note_error_while_loading_plugin(const std::string& message) {
  if (!loading) return false;
  if (!loading_error) loading_error = message;
  return true;
}

void load_plugin(const std::string& file, const std::string& config_directory) {
  namespace fs = std::filesystem;
  if (file.empty()) throw ConfigError("plugin \"\": wanted the file name of a shared library");
  std::error_code ignored;
  std::string name = file;
  if (const fs::path beside = fs::path(config_directory) / file; fs::exists(beside, ignored))
    name = fs::absolute(beside, ignored).string();  // an absolute `file` stays itself
  else if (file.find('/') != std::string::npos)
    throw ConfigError(fmt::format(
        "plugin \"{}\" does not exist (searched in {}); build it, or correct its path in "
        "\"plugins\"",
        file, fs::absolute(config_directory, ignored).string()));

  const std::lock_guard lock(plugins_mutex);
  const bool open_already = [&] {
    void* known = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (known) ::dlclose(known);
    return known != nullptr;
  }();
  if (!open_already)
    if (const std::string failure = failure_of_a_trial(name); !failure.empty())
      throw ConfigError(fmt::format(
          "plugin \"{}\" ({}) ends the process that loads it ({}): its file is damaged, or one "
          "of its static initialisers throws; rebuild it or fix the initialiser",
          file, name, failure));
  void* handle = open_library(name);
  if (!handle) {
    const std::string reason = ::dlerror();
    if (reason.find("reverie_plugin_api_") != std::string::npos)
      throw ConfigError(fmt::format(
          "plugin \"{}\" was built for another plugin API version than {}, this program's; "
          "rebuild it against this version ({})",
          file, kPluginApiVersion, reason));
    throw ConfigError(fmt::format("plugin \"{}\" does not load: {}", file, reason));
  }
  if (std::any_of(plugins().begin(), plugins().end(),
                  [&](const Loaded& p) { return p.handle == handle; }))
    return;
  // From here on an error leaves the library mapped: the registry may already hold pointers into
  // it.
  auto* version = reinterpret_cast<int (*)()>(::dlsym(handle, "reverie_plugin_api_version"));
  if (!version)
    throw ConfigError(fmt::format(
        "plugin \"{}\" ({}) does not export reverie_plugin_api_version; put REVERIE_PLUGIN() in "
        "one of its sources",
        file, name));
  if (version() != kPluginApiVersion)
    throw ConfigError(fmt::format(
        "plugin \"{}\" ({}) was built for plugin API version {}, this program has {}; rebuild it",
        file, name, version(), kPluginApiVersion));
  if (loading_error)
    throw ConfigError(fmt::format("plugin \"{}\" ({}): {}", file, name, *loading_error));
  // A bare name was found by the dynamic linker, wherever that is.
  plugins().push_back({handle, name, name.find('/') == name.npos ? "" : hash_file(name)});
  log_message(LogLevel::debug, "loaded plugin " + name);
}

std::vector<std::string> loaded_plugins() {
  const std::lock_guard lock(plugins_mutex);
  std::vector<std::string> files;
  for (const Loaded& plugin : plugins()) files.push_back(plugin.file);
  return files;
}

std::map<std::string, std::string> plugin_hashes() {
  const std::lock_guard lock(plugins_mutex);
  std::map<std::string, std::string> hashes;
  for (const Loaded& plugin : plugins())
    if (!plugin.hash.empty())
      hashes[std::filesystem::path(plugin.file).filename().string()] = plugin.hash;
  return hashes;
}

}  // namespace reverie
