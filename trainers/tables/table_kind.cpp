#include "trainers/tables/table_kind.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace reverie {

template <>
TableKindRegistry& TableKindRegistry::instance() {
  static TableKindRegistry registry("table kind");
  return registry;
}

const TablePreset& TableFile::preset() const {
  if (const TablePreset* found = table().preset(preset_name)) return *found;
  throw ConfigError(fmt::format("{} has no preset \"{}\"; it has: {}", file, preset_name,
                                fmt::join(table().preset_names(), ", ")));
}

TableHeading TableFile::heading(int64_t planned_runs) const {
  return {table().title, preset_name, command, planned_runs};
}

Component read_table_definition(const Config& file) {
  Component component;
  component.type = kDefaultTableKind;
  component.path = file.path();
  if (file.has("kind")) {
    const Json kind = file.at("kind").json();
    if (!kind.is_string())
      throw ConfigError(fmt::format("{}.kind is {}, wanted a string: the name of a table kind",
                                    file.path(), json_text(kind)));
    component.type = kind.get<std::string>();
  }
  std::unique_ptr<Fieldset> options =
      TableKindRegistry::instance().entry(component.type, file.path() + ".kind").new_fieldset();
  dynamic_cast<const TableDefinition&>(*options).refuse_misplaced(file);
  read_config(file, *options);
  component.options = std::move(options);
  return component;
}

std::unique_ptr<TableKind> make_table_kind(const TableFile& table) {
  return TableKindRegistry::instance().make(table.definition, table);
}

Json table_schema(const std::string& kind) {
  Json schema =
      config_schema(*TableKindRegistry::instance().entry(kind, "--print-schema").new_fieldset());
  schema["title"] = "a table of kind " + kind;
  return schema;
}

}  // namespace reverie
