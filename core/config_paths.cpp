#include "core/config_paths.h"

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/config_internal.h"
#include "core/error.h"
#include "core/idle_fields.h"
#include "core/log.h"
#include "core/registry.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

std::string variable(const std::string& name, const std::string& path) {
  const char* value = std::getenv(name.c_str());
  if (!value)
    throw ConfigError(fmt::format(
        "the path {} names ${}, which is not set: export it, or write the path out", path, name));
  return value;
}

// "~/x", "$NAME/x" and "${NAME}/x" written out. A file that has such a name is left alone.
std::string expand(const std::string& path) {
  std::error_code ignored;
  if (path.find_first_of("~$") == path.npos || fs::exists(path, ignored)) return path;
  std::string out;
  size_t at = 0;
  if (path == "~" || path.starts_with("~/")) {
    out = variable("HOME", path);
    at = 1;
  }
  while (at < path.size()) {
    if (path[at] != '$') {
      out += path[at++];
      continue;
    }
    const bool braces = at + 1 < path.size() && path[at + 1] == '{';
    const size_t begin = at + (braces ? 2 : 1);
    size_t end = begin;
    while (end < path.size() && (std::isalnum(uint8_t(path[end])) || path[end] == '_')) ++end;
    if (end == begin || (braces && (end == path.size() || path[end] != '}'))) {
      out += path[at++];  // a dollar that begins no name
      continue;
    }
    out += variable(path.substr(begin, end - begin), path);
    at = end + (braces ? 1 : 0);
  }
  return out;
}

std::string absolute_path(const std::string& given, const std::string& directory) {
  if (given.empty()) return given;
  const fs::path path = expand(given), beside = fs::path(directory) / path;
  std::error_code ignored;
  const bool here_only =
      path.is_relative() && !fs::exists(beside, ignored) && fs::exists(path, ignored);
  const std::string result = fs::absolute(here_only ? path : beside).lexically_normal().string();
  if (here_only && fs::absolute(directory) != fs::current_path())
    log_message(LogLevel::debug,
                fmt::format("{} is not beside the config, so it is {}", given, result));
  return result;
}

class PathVisit final : public IdleFields {
 public:
  explicit PathVisit(const std::function<void(std::string&)>& change) : change_(change) {}
  void entries(std::string_view, Entries& value, std::string_view) override {
    for (const std::string& name : value.names()) value.describe(name, *this);
  }
  void path(std::string_view, std::string& value, std::string_view) override { change_(value); }
  void object(std::string_view, Fieldset& value, std::string_view) override { value.fields(*this); }
  void component(std::string_view, Component& value, const RegistryBase& registry, bool,
                 std::string_view) override {
    if (!value.given() || !value.options) return;
    auto options = registry.entry(value.type, value.path).copy_fieldset(*value.options);
    options->fields(*this);
    keep_options(value, std::move(options));
  }
  void components(std::string_view key, std::vector<Component>& value, const RegistryBase& registry,
                  std::string_view doc) override {
    for (Component& c : value) component(key, c, registry, false, doc);
  }

 private:
  const std::function<void(std::string&)>& change_;
};

}  // namespace

void each_path(Fieldset& value, const std::function<void(std::string&)>& change) {
  PathVisit visit(change);
  value.fields(visit);
}

void resolve_paths(Fieldset& value, const std::string& directory) {
  each_path(value, [&](std::string& path) { path = absolute_path(path, directory); });
}

}  // namespace reverie
