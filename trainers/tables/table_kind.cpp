#include "trainers/tables/table_kind.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainers/tables/definition.h"

namespace reverie {

TableKinds& TableKinds::instance() {
  static TableKinds kinds;
  return kinds;
}

bool TableKinds::add_entry(const std::string& name, Entry entry) {
  if (!entries_.emplace(name, std::move(entry)).second)
    throw InternalError(fmt::format("two kinds of tables are called \"{}\"", name));
  return true;
}

std::unique_ptr<TableKind> make_table_kind(const TableFile& table) {
  const auto& kinds = TableKinds::instance().entries_;
  std::string name = text_at(table.config.json(), "kind", "$", false);
  if (name.empty()) name = "losses";
  const auto kind = kinds.find(name);
  if (kind == kinds.end()) {
    std::vector<std::string> known;
    for (const auto& [other, entry] : kinds) known.push_back('"' + other + '"');
    throw ConfigError(
        fmt::format("$.kind is \"{}\", wanted one of: {}", name, fmt::join(known, ", ")));
  }
  const auto& [table_own, preset_own, make] = kind->second;
  std::vector<std::string> table_keys{"kind", "title", "report", "base", "models", "presets"},
      preset_keys{"seeds", "model_seeds", "patch", "model_patches"};
  table_keys.insert(table_keys.end(), table_own.begin(), table_own.end());
  preset_keys.insert(preset_keys.end(), preset_own.begin(), preset_own.end());
  refuse_unknown_keys(table.config.json(), table_keys, "$");
  refuse_unknown_keys(table.preset.json(), preset_keys, table.preset.path());
  return make(table);
}

}  // namespace reverie
