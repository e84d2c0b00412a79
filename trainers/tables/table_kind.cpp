#include "trainers/tables/table_kind.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainers/tables/definition.h"

namespace reverie {

std::unique_ptr<TableKind> make_table_kind(const TableFile& table) {
  const TableKindEntry kinds[] = {loss_table_kind(), latent_table_kind(), reasoning_table_kind(),
                                  sweep_kind()};
  std::string name = text_at(table.config.json(), "kind", "$", false);
  if (name.empty()) name = kinds[0].name;
  const auto kind = std::find_if(std::begin(kinds), std::end(kinds),
                                 [&](const TableKindEntry& k) { return k.name == name; });
  if (kind == std::end(kinds))
    throw ConfigError(fmt::format("$.kind is \"{}\", wanted \"{}\", \"{}\", \"{}\" or \"{}\"", name,
                                  kinds[0].name, kinds[1].name, kinds[2].name, kinds[3].name));
  std::vector<std::string> table_keys{"kind", "title", "report", "base", "models", "presets"},
      preset_keys{"seeds", "model_seeds", "patch", "model_patches"};
  table_keys.insert(table_keys.end(), kind->table_keys.begin(), kind->table_keys.end());
  preset_keys.insert(preset_keys.end(), kind->preset_keys.begin(), kind->preset_keys.end());
  refuse_unknown_keys(table.config.json(), table_keys, "$");
  refuse_unknown_keys(table.preset.json(), preset_keys, table.preset.path());
  return kind->make(table);
}

}  // namespace reverie
