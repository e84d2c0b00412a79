// The kind "sweep": one experiment with some of its values varied, every combination with every
// seed. Besides the keys of all tables (repro.h), "models" excepted, which it has not:
//   "vary": {PATH: [VALUE, ...]}, by path of the experiment ("optimizer.learning_rate")
// A preset holds "seeds" and may hold "patch". `reverie sweep` writes such a file.

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/sweeps/sweep_table.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/quantities.h"
#include "trainers/training/plan.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

class SweepKind final : public TableKind {
 public:
  explicit SweepKind(const TableFile& t)
      : table_(t), axes_(read_sweep_axes(t.config.at("vary").json(), "$.vary")) {
    if (t.config.has("models"))
      throw ConfigError("$.models: a sweep has none; its rows are the combinations of $.vary");
    if (t.preset.has("model_patches"))
      throw ConfigError(t.preset.path() + ".model_patches: a sweep has no models; use \"patch\"");
    title_ = text_at(t.config.json(), "title", "$", true);
    if (t.config.has("report")) {
      refuse_unknown_keys(t.config.at("report").json(), {"notes"}, "$.report");
      notes_ = texts_at(t.config.at("report").json(), "notes", "$.report");
    }
    for (SweepCell& cell : sweep_cells(axes_)) cells_.push_back(std::move(cell));
  }

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> out;
    for (const SweepCell& cell : cells_) out.push_back({cell.name, 0});
    return out;
  }
  bool has_models() const override { return false; }
  void set_cell_values(const PlannedCell& planned, Config& config) const override {
    for (const SweepCell& cell : cells_)
      if (cell.name == planned.model)
        for (const auto& [path, value] : cell.assignments)
          config.set(path + "=" + json_text(value));
  }
  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out = fmt::format("{:<40} {:>14} {:>8} {:>14} {:>14}\n", "values", "parameters",
                                  "steps", "TFLOP a run", "MiB at peak");
    for (const PlannedRun& r : runs) {
      if (r.seed != runs[0].seed) continue;
      const Plan p = plan_run(read_experiment(r.config, table_.directory));
      out += fmt::format("{:<40} {:>14} {:>8} {:>14.2f} {:>14.1f}\n", r.cell.model,
                         format_integer(p.parameters), p.steps,
                         p.step_flops * double(p.steps) / 1e12, p.peak_bytes / double(1 << 20));
    }
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override {
    std::vector<SweepRun> runs;
    for (const PlannedRun& r : finished)
      runs.push_back({r.cell.model, r.seed, read_run_record(r.directory)});
    Provenance provenance;
    provenance.command = table_.command;
    SweepTable table = build_sweep_table(axes_, std::move(runs), std::move(provenance));
    table.title = title_;
    table.notes = notes_;
    table.planned_runs = planned;
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
  std::string title_;
  std::vector<std::string> notes_;
  std::vector<SweepAxis> axes_;
  std::vector<SweepCell> cells_;
};

const bool registered = TableKinds::instance().add<SweepKind>("sweep", {"vary"}, {});

}  // namespace

}  // namespace reverie
