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
#include "trainers/tables/table_kind.h"
#include "trainers/text/quantities.h"
#include "trainers/training/plan.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

class LossTableKind final : public TableKind {
 public:
  explicit LossTableKind(const TableFile& t)
      : table_(t),
        models_(list_at<std::string>(t.preset, "models")),
        block_sizes_(list_at<int64_t>(t.preset, "block_sizes")) {}

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (const int64_t block : block_sizes_)
      for (const auto& model : models_) cells.push_back({model, block});
    return cells;
  }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    config.merge(table_.config.at("block_sizes").at(std::to_string(cell.level)));
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override {
    config.set("model.block_size=" + std::to_string(cell.level));
  }

  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out =
        fmt::format("{:<24} {:>10} {:>14} {:>8} {:>14} {:>14}\n", "model", "block size",
                    "parameters", "steps", "TFLOP a run", "MiB at peak");
    for (const PlannedRun& r : runs) {
      if (r.seed != runs[0].seed) continue;
      const Plan p = plan_run(read_experiment(r.config, table_.directory));
      out += fmt::format("{:<24} {:>10} {:>14} {:>8} {:>14.2f} {:>14.1f}\n", r.cell.model,
                         r.cell.level, format_integer(p.parameters), p.steps,
                         p.step_flops * double(p.steps) / 1e12, p.peak_bytes / double(1 << 20));
    }
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override {
    std::vector<LossRun> runs;
    for (const PlannedRun& r : finished)
      runs.push_back({r.cell.model, r.cell.level, uint64_t(r.seed), read_summary(r.directory),
                      read_metrics(r.directory), r.directory});
    Json definition = table_.config.at("report").json();
    definition["title"] = table_.config.at("title").json();
    definition["preset"] = table_.preset_name;
    definition["command"] = table_.command;
    definition["planned_runs"] = planned;
    const LossTable table = build_loss_table(definition, runs);
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
  std::vector<std::string> models_;
  std::vector<int64_t> block_sizes_;
};

const bool registered =
    TableKinds::instance().add<LossTableKind>("losses", {"block_sizes"}, {"models", "block_sizes"});

}  // namespace

}  // namespace reverie
