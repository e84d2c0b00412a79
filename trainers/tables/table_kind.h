#pragma once
/// Kinds of tables: what their cells are, and what becomes of finished runs. Planning and training
/// are the same for all (repro.cpp).

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/registry.h"
#include "datasets/dataset.h"
#include "trainers/tables/definition.h"

namespace reverie {

/// A run's place in a table: a model at one level of the table's factor (a block size, a number of
/// latents).
struct PlannedCell {
  std::string model;
  int64_t level = 0;
  std::string level_name = {};  ///< of levels that are no numbers, such as tasks
};

/// A run that is tried before the table's own, so that it decides a part of their configs.
struct PlannedTrial {
  PlannedCell cell;
  Json patch;  ///< what is tried, on top of the cell's config
};

/// What a table's base and preset say of "data".
struct TableData {
  DataOptions options;  ///< paths as they are written
  Json as_written;      ///< without defaults: stored measurements are known by it
};

struct PlannedRun {
  PlannedCell cell;
  int64_t seed = 0;
  Config config;          ///< of the experiment
  std::string directory;  ///< under the table's: runs/<model>-<level>-seed<seed>-<hash of resolved
                          ///< config and tokens>
  /// The table's own "data", where this run is trained on other: a model's patch says so.
  std::optional<TableData> table_data;
  bool data_prepared = true;  ///< false: the directory is not yet the one that the run will have
  std::optional<std::string> data_hash = {};  ///< of its tokens, where they are prepared
  bool in_table = true;                       ///< false: others stand on it
  bool trial = false;                         ///< it decides a part of the others' configs
};
/// Whether a trial ended because its loss was not finite: that is a result, and no error.
bool trial_diverged(const PlannedRun& run);

/// A base that is not there yet.
struct PlannedBase {
  Json shape;                 ///< a "model"; null: not known
  DType stored = DType::f32;  ///< of the matrices in its files
};

/// A table's file, read, and the preset that was asked for.
struct TableFile {
  Component definition;  ///< of the registered kind; its options are the TableDefinition
  std::string file, preset_name, command;
  std::string directory;         ///< of the file: plugins are looked up beside it
  std::string output_directory;  ///< where runs and the table go
  /// That base, preset and --set name, for measuring what the table does not train.
  std::string device = "cpu";

  const TableDefinition& table() const { return component_options<TableDefinition>(definition); }
  /// ConfigError, with those that the table has, where it has none of this name.
  const TablePreset& preset() const;
  std::string preset_path() const { return "$.presets." + preset_name; }
  TableHeading heading(int64_t planned_runs) const;
};

class TableKind {
 public:
  virtual ~TableKind() = default;
  /// The preset's cells, in the order of training.
  virtual std::vector<PlannedCell> cells() const = 0;
  /// Whether the table has "models", whose patches go into a cell's config.
  virtual bool has_models() const { return true; }
  /// Merges the patch of a cell's level into its config, which is the table's base by now; patches of
  /// model and preset come after it.
  virtual void merge_level_patch(const PlannedCell&, Config&) const {}
  /// After all patches: checks a cell's config, and sets the values that the cell decides.
  virtual void set_cell_values(const PlannedCell&, Config&) const = 0;
  /// Sets paths of earlier runs that this one reads: `earlier` are those of the same seed.
  virtual void set_earlier_paths(const PlannedCell&, const std::vector<PlannedRun>& earlier,
                                 Config&) const {}
  /// The finished config of a planned run, overrides and plug-ins included: ConfigError for what this
  /// kind cannot have, before anything is trained.
  virtual void check(const PlannedRun&) const {}
  /// The patch of a run that has to be there before all others, such as the base that they share.
  virtual std::optional<Json> preliminary() const { return std::nullopt; }
  /// It, as planned; called before merge_level_patch() and set_cell_values().
  virtual void set_preliminary(const PlannedRun&) {}
  /// Trials, trained before the cells; and which of them there are, called before set_cell_values(). What
  /// is decided by trials that have not all finished is not known yet.
  virtual std::vector<PlannedTrial> trials() const { return {}; }
  virtual void set_trials(const std::vector<PlannedRun>&) {}
  /// After each finished run, also one that was reused: makes whatever the table wants beside its
  /// summary, unless it is there.
  virtual void measure_finished(const PlannedRun&) const {}
  /// The cost of these planned runs, as text; needs neither data nor a base's weights.
  virtual std::string plan(const std::vector<PlannedRun>& runs) const = 0;
  /// The model that earlier runs of the table, or somebody else, will put where the base of later ones
  /// is to lie. For plans.
  virtual PlannedBase planned_base(const std::vector<PlannedRun>&) const { return {}; }
  /// Measures what the table has besides runs that it trains, such as published models; called after
  /// all of these, and not where the table is only to be written again.
  virtual void measure_given() const {}
  /// Whether there is something to write before any run has finished.
  virtual bool writes_without_runs() const { return false; }
  /// Writes the table of the finished runs (one or more, unless writes_without_runs()) into the
  /// output directory; the files' names.
  virtual std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                         int64_t planned) const = 0;
};

/// Kinds by name, the "kind" of a table's file. Each registers itself in a file of its own with its
/// definition, a TableDefinition, of which it is made:
///   TableKindRegistry::instance().add<Mine, MyDefinition>("mine", "what its cells are");
using TableKindRegistry = Registry<TableKind, const TableFile&>;
template <>
TableKindRegistry& TableKindRegistry::instance();

/// Reads a table's file as the definition of its kind. ConfigError for another kind, and for keys of
/// the table or of any preset that this kind does not know.
Component read_table_definition(const Config& file);
std::unique_ptr<TableKind> make_table_kind(const TableFile&);

/// The JSON Schema of the tables of a kind.
Json table_schema(const std::string& kind);

}  // namespace reverie
