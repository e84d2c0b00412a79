// The kind "sweep": one experiment with some of its values varied, every combination with every
// seed. It has no models: its rows are the combinations. `reverie sweep` writes such a file.

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/run_costs.h"
#include "trainers/tables/sweeps/sweep_table.h"
#include "trainers/tables/table_kind.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct SweepReport final : Fieldset {
  std::vector<std::string> notes;
  void fields(Fields& f) override { f.texts("notes", notes, "paragraphs below the table"); }
};

struct SweepDefinition final : TableDefinitionWith<TablePreset> {
  SweepDefinition() : TableDefinitionWith("sweep") {}
  SweepReport report;
  Json vary;
  void fields(Fields& f) override {
    TableDefinition::fields(f);
    f.object("report", report, "texts beside the table");
    f.required().patch("vary", vary,
                       "for each path in the experiment (such as \"optimizer.learning_rate\"), its "
                       "values; every combination is trained");
    preset_fields(f);
  }
  void refuse_misplaced(const Config& file) const override {
    if (file.has("models"))
      throw ConfigError("$.models: a sweep has none; its rows are the combinations of $.vary");
    if (!file.has("presets")) return;
    const Json& presets = file.json()["presets"];
    if (!presets.is_object()) return;
    for (const auto& [name, preset] : presets.items())
      if (preset.is_object() && preset.contains("model_patches"))
        throw ConfigError(
            fmt::format("$.presets.{}.model_patches: a sweep has no models; use \"patch\"", name));
  }
};

class SweepKind final : public TableKind {
 public:
  SweepKind(const SweepDefinition& definition, const TableFile& t)
      : table_(t),
        notes_(definition.report.notes),
        axes_(read_sweep_axes(definition.vary, "$.vary")),
        cells_(sweep_cells(axes_)) {}

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> out;
    for (const SweepCell& cell : cells_) out.push_back({cell.name, 0});
    return out;
  }
  bool has_models() const override { return false; }
  void set_cell_values(const PlannedCell& planned, Config& config) const override {
    for (const SweepCell& cell : cells_)
      if (cell.name == planned.model)
        for (const auto& [path, value] : cell.assignments) config.set(path, value);
  }
  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out = fmt::format("{:<34} {}\n", "values", cost_headings());
    for (const PlannedRun& r : runs)
      if (r.seed == runs[0].seed)
        out += fmt::format("{:<34} {}\n", r.cell.model, cost_columns(r, table_.directory));
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override {
    std::vector<SweepRun> runs;
    for (const PlannedRun& r : finished)
      runs.push_back({r.cell.model, r.seed, read_run_record(r.directory)});
    const TableHeading heading = table_.heading(planned);
    Provenance provenance;
    provenance.command = heading.command;
    SweepTable table = build_sweep_table(axes_, std::move(runs), std::move(provenance));
    table.title = heading.title;
    table.notes = notes_;
    table.planned_runs = heading.planned_runs;
    const std::string& directory = table_.output_directory;
    const auto plots = sweep_plot_files(table);
    for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
    write_file_atomically(directory + "/table.json", json_text(sweep_table_json(table), 2) + "\n");
    write_file_atomically(directory + "/table.md", sweep_table_markdown(table, plots));
    write_file_atomically(directory + "/report.html", sweep_report_html(table));
    return {"table.md", "table.json", "report.html"};
  }

 private:
  TableFile table_;
  std::vector<std::string> notes_;
  std::vector<SweepAxis> axes_;
  std::vector<SweepCell> cells_;
};

const bool sweep_kind_registered = TableKindRegistry::instance().add<SweepKind, SweepDefinition>(
    "sweep", "one experiment with some of its values varied, every combination with every seed");

}  // namespace

Json sweep_schema() {
  Json schema = table_schema("sweep");
  ExperimentOptions experiment;
  Json base = config_schema(experiment);
  base.erase("$schema");
  schema["$defs"] = base["$defs"];  // where its references point
  base.erase("$defs");
  schema["properties"]["base"] = std::move(base);
  Json& vary = schema["properties"]["vary"];
  vary["additionalProperties"] = {{"type", "array"}, {"minItems", 1}};
  vary["propertyNames"] = {{"not", {{"pattern", "^(seed|data([.].*)?)$"}}}};
  return schema;
}

}  // namespace reverie
