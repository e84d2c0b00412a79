// The kind "losses": training and validation losses of models at several block sizes, beside what a
// paper printed.

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/run_directory.h"
#include "trainers/tables/losses/loss_report.h"
#include "trainers/tables/losses/loss_table.h"
#include "trainers/tables/run_costs.h"
#include "trainers/tables/table_kind.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct LossPreset final : TablePreset {
  std::vector<std::string> models;
  std::vector<int64_t> block_sizes;
  void fields(Fields& f) override {
    TablePreset::fields(f);
    f.required().texts("models", models, "the models that are trained");
    f.required().integers("block_sizes", block_sizes, kPositive,
                          "the block sizes at which they are trained");
    seeds_by_name(f, "block_size_seeds", level_seeds,
                  "by block size: those of the seeds that its models are trained with; left out: "
                  "all");
    number_keys(f, level_seeds.names(), "block_size_seeds", "block size");
    model_fields(f);
  }
};

struct LossDefinition final : TableDefinitionWith<LossPreset> {
  LossDefinition() : TableDefinitionWith(kDefaultTableKind) {}
  LossReport report;
  Named<Json> block_sizes;
  void fields(Fields& f) override {
    TableDefinition::fields(f);
    f.object("report", report, "the paper's figures, and texts beside the table");
    model_fields(f);
    describe_named(f.required(), "block_sizes", block_sizes,
                   "by block size: patches, merged before those of the models",
                   [](Fields& inner, const std::string& name, Json& patch) {
                     inner.patch(name, patch, "merged into the config of its runs");
                   });
    preset_fields(f);
  }
};

class LossTableKind final : public TableKind {
 public:
  LossTableKind(const LossDefinition& definition, const TableFile& t)
      : table_(t), definition_(definition), preset_(definition.presets.at(t.preset_name, "")) {}

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (const int64_t block : preset_.block_sizes)
      for (const auto& model : preset_.models) cells.push_back({model, block});
    return cells;
  }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    merge_patch(config, definition_.block_sizes.at(std::to_string(cell.level), "$.block_sizes"));
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override {
    config.set("model.block_size", cell.level);
    const Json model = config.json().value("model", Json::object());
    if (model.value("type", Json()) == "augmented")
      throw ConfigError(fmt::format(
          "model \"{}\" writes latents: its losses of every token are its base's, which this kind "
          "of table compares; wanted a table of kind latent_effect, or `reverie sweep`",
          cell.model));
  }

  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out = fmt::format("{:<24} {:>10} {}\n", "model", "block size", cost_headings());
    for (const PlannedRun& r : runs)
      if (r.seed == runs[0].seed)
        out += fmt::format("{:<24} {:>10} {}\n", r.cell.model, r.cell.level,
                           cost_columns(r, table_.directory));
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override {
    std::vector<LossRun> runs;
    for (const PlannedRun& r : finished)
      runs.push_back({r.cell.model, r.cell.level, uint64_t(r.seed), read_summary(r.directory),
                      read_metrics(r.directory), r.directory});
    const LossTable table = build_loss_table(definition_.report, table_.heading(planned), runs);
    const std::string& directory = table_.output_directory;
    write_file_atomically(directory + "/table.json", json_text(loss_table_json(table), 2) + "\n");
    const auto plots = loss_plot_files(table, runs);
    for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
    write_file_atomically(directory + "/table.md", loss_table_markdown(table, plots));
    write_file_atomically(directory + "/report.html", loss_report_html(table, runs));
    return {"table.md", "table.json", "report.html"};
  }

 private:
  TableFile table_;
  LossDefinition definition_;
  LossPreset preset_;
};

const bool loss_table_kind_registered =
    TableKindRegistry::instance().add<LossTableKind, LossDefinition>(
        kDefaultTableKind, "training and validation losses of models at several block sizes");

}  // namespace

}  // namespace reverie
