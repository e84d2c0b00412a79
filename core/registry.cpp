#include "core/registry.h"

#include "core/config_internal.h"
#include "core/plugin_internal.h"

namespace reverie {

std::vector<std::string> RegistryBase::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : entries_) result.push_back(name);
  return result;
}

const RegistryBase::Entry& RegistryBase::entry(const std::string& name,
                                               const std::string& path) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    throw ConfigError(fmt::format("{}: unknown {} \"{}\"{}", path, kind_, name,
                                  suggestion(name, names(), fmt::format("known {}s", kind_))));
  return found->second;
}

bool RegistryBase::add_entry(const std::string& name, Entry entry) {
  const auto [place, added] = entries_.try_emplace(name, std::move(entry));
  if (added) return true;
  const std::source_location& first = place->second.where;
  // try_emplace moves from its argument only when it inserts.
  const std::string message =
      fmt::format("{} \"{}\" is registered twice: at {}:{} and at {}:{}; rename one", kind_, name,
                  first.file_name(), first.line(), entry.where.file_name(), entry.where.line());
  if (note_error_while_loading_plugin(message)) return false;
  throw InternalError(message, entry.where);
}

}  // namespace reverie
