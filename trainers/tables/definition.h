#pragma once
/// A table's definition: what its file, its presets and its report hold, whatever its kind. Each kind
/// adds fields of its own.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/named.h"

namespace reverie {

/// One preset of a table. Its patches (RFC 7386) go into runs' configs.
struct TablePreset : Fieldset {
  std::vector<int64_t> seeds;
  Json patch;  ///< null: none
  Named<std::vector<int64_t>> model_seeds;
  Named<std::vector<int64_t>> level_seeds;  ///< by the level's number, for kinds that describe it
  Named<Json> model_patches;
  /// Names seeds and patch; a kind's own fields stand behind them.
  void fields(Fields&) override;

 protected:
  /// Names those of the models, for kinds that have models.
  void model_fields(Fields&);
  /// Lists of seeds by name.
  static void seeds_by_name(Fields&, std::string_view key, Named<std::vector<int64_t>>& value,
                            std::string_view doc);
};

/// Describes patches by name, each merged into the config of the runs that have its name.
void describe_patches(Fields&, std::string_view key, Named<Json>& value, std::string_view doc);

struct TableDefinition : Fieldset {
  explicit TableDefinition(std::string kind_name) : kind(std::move(kind_name)) {}
  std::string kind, title;
  Json base;  ///< an experiment, or a part of one that patches complete
  Named<Json> models;
  /// Names kind, title and base.
  void fields(Fields&) override;
  virtual std::vector<std::string> preset_names() const = 0;
  virtual const TablePreset* preset(const std::string& name) const = 0;
  /// Called before the file is read. ConfigError for keys that are gone, or that this kind cannot
  /// have, where more can be said than that they are unknown.
  virtual void refuse_misplaced(const Config& /*file*/) const {}

 protected:
  void model_fields(Fields&);
};

/// A definition with presets of one type.
template <class Preset>
struct TableDefinitionWith : TableDefinition {
  using TableDefinition::TableDefinition;
  Named<Preset> presets;
  std::vector<std::string> preset_names() const override { return presets.names(); }
  const TablePreset* preset(const std::string& name) const override { return presets.find(name); }

 protected:
  void preset_fields(Fields& f) {
    describe_named(f.required(), "presets", presets, "what is trained, by the name of the preset",
                   [](Fields& inner, const std::string& name, Preset& preset) {
                     inner.object(name, preset, "one preset");
                   });
  }
};

/// A kind whose file names no "kind".
inline constexpr const char* kDefaultTableKind = "losses";

/// Merges a patch, where one is given.
void merge_patch(Config&, const Json& patch);

/// "model.type" of a run's config. ConfigError where there is none.
std::string type_of_model(const Config&);

/// A model as a table shows it.
struct TableModel {
  std::string name, title, description;
};
struct ModelTexts final : Fieldset {
  std::string title, description;
  void fields(Fields&) override;
};
/// What a table's files say beside its figures.
struct TableReport : Fieldset {
  std::string citation;
  std::vector<std::string> notes;
  Named<ModelTexts> models;
  void fields(Fields&) override;
  /// In the order of the rows; a title left out is the name.
  std::vector<TableModel> table_models() const;
};
/// What a table's files say of how it was made.
struct TableHeading {
  std::string title, preset, command;
  int64_t planned_runs = 0;  ///< so that an unfinished table says so
};

/// Keys of the object `where` that have to be integers ("64"): a rule for each, by which it "is no
/// `what`".
void number_keys(Fields&, const std::vector<std::string>& keys, const std::string& where,
                 const char* what);
/// Such a key's value. InternalError where the rule was not asked.
int64_t number_of_key(const std::string& key);

}  // namespace reverie
