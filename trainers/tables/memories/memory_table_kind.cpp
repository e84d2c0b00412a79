// The kind "memory": what memory modules do on tasks that need a memory. Its cells are models on
// tasks; a task's patch has its data and the model's block_size, one window.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/memories/memory_definition.h"
#include "trainers/tables/memories/memory_table.h"
#include "trainers/tables/run_costs.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

constexpr const char* kMeasurementFile = "memory_on_task.json";
constexpr const char* kFormat = "reverie memory on task 1";

class MemoryTableKind final : public TableKind {
 public:
  MemoryTableKind(const MemoryDefinition& definition, const TableFile& t)
      : table_(t), definition_(definition), preset_(definition.presets.at(t.preset_name, "")) {
    models_ = preset_.models.empty() ? definition_.models.names() : preset_.models;
    tasks_ = preset_.tasks.empty() ? definition_.tasks.names() : preset_.tasks;
    for (const auto& model : models_) definition_.models.at(model, "$.models");
    for (const auto& task : tasks_) definition_.tasks.at(task, "$.tasks");
    for (const auto& [task, patch] : preset_.task_patches) definition_.tasks.at(task, "$.tasks");
  }

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (size_t i = 0; i < tasks_.size(); ++i)
      for (const auto& model : models_) cells.push_back({model, int64_t(i) + 1, tasks_[i]});
    return cells;
  }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    merge_patch(config, definition_.tasks.at(cell.level_name, "$.tasks"));
    if (const Json* patch = preset_.task_patches.find(cell.level_name)) merge_patch(config, *patch);
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override {
    if (cell.model != definition_.oracle) return;
    const int64_t windows = integer_at(config, "train", "windows", 1);
    config.set("model.block_size", windows * integer_at(config, "model", "block_size", 0));
    config.set("train.windows", 1);
  }
  void check(const PlannedRun& run) const override {
    if (run.seed != preset_.seeds[0]) return;  // all seeds have one config
    const bool is_oracle = run.cell.model == definition_.oracle;
    require_fit_for_memory_table(read_experiment_as_written(run.config, table_.directory),
                                 fmt::format("{} on {}", run.cell.model, run.cell.level_name),
                                 is_oracle, !is_oracle && run.cell.model != definition_.baseline);
  }
  void measure_finished(const PlannedRun& run) const override;
  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out = fmt::format("{:<24} {:<10} {}\n", "model", "task", cost_headings());
    for (const PlannedRun& r : runs)
      if (r.seed == runs[0].seed)
        out += fmt::format("{:<24} {:<10} {}\n", r.cell.model, r.cell.level_name,
                           cost_columns(r, table_.directory));
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  static int64_t integer_at(const Config& config, const char* object, const char* key,
                            int64_t otherwise) {
    if (!config.has(object) || !config.at(object).has(key)) {
      if (otherwise > 0) return otherwise;
      throw ConfigError(fmt::format("$.tasks: no patch gives {}.{}", object, key));
    }
    const Json& value = config.at(object).at(key).json();
    if (!value.is_number_integer())
      throw ConfigError(
          fmt::format("$.{}.{} is {}, wanted an integer", object, key, json_text(value)));
    return value.get<int64_t>();
  }
  // Cache key of a stored measurement.
  Json wanted() const {
    return {{"format", kFormat},
            {"documents", preset_.measure.documents},
            {"windows", preset_.measure.windows},
            {"batch_size", preset_.measure.batch_size}};
  }
  // Where the run was measured as this table wants.
  std::optional<MemoryMeasurement> measurement_of(const std::string& directory) const {
    const Json json = kept_measurement(directory + "/" + kMeasurementFile, wanted(), directory);
    if (json.is_null()) return std::nullopt;
    return MemoryMeasurement::from_json(json);
  }

  TableFile table_;
  MemoryDefinition definition_;
  MemoryPreset preset_;
  std::vector<std::string> models_, tasks_;
};

void MemoryTableKind::measure_finished(const PlannedRun& run) const {
  if (measurement_of(run.directory)) return;
  const LoadedRun loaded = load_run(run.directory);
  const RunData opened = open_run_data(run.directory, loaded, false);
  const Activity activity("measuring the memory");
  const MemoryMeasurement measured =
      measure_memory(*loaded.model, opened.data, preset_.measure, loaded.step);
  keep_leak(run.directory, measured.verdict);
  Json json = measured.json();
  json["of"] = wanted();
  name_checkpoint(json, loaded.checkpoint);
  write_file_atomically(run.directory + "/" + kMeasurementFile, json_text(json, 2) + "\n");
}

std::vector<std::string> MemoryTableKind::write(const std::vector<PlannedRun>& finished,
                                                int64_t planned) const {
  std::vector<MemoryRun> runs;
  for (const PlannedRun& r : finished)
    if (const auto measured = measurement_of(r.directory))
      runs.push_back({r.cell.model, r.cell.level_name, r.seed, read_summary(r.directory),
                      r.directory, *measured});
  if (runs.empty()) return {};
  const MemoryTable table =
      build_memory_table(definition_.report, table_.heading(planned),
                         {definition_.baseline, definition_.oracle, tasks_}, runs);
  const std::string& directory = table_.output_directory;
  const auto plots = memory_plot_files(table);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  write_file_atomically(directory + "/table.json", json_text(memory_table_json(table), 2) + "\n");
  write_file_atomically(directory + "/table.csv", memory_table_csv(table));
  write_file_atomically(directory + "/table.md", memory_table_markdown(table, plots));
  write_file_atomically(directory + "/report.html", memory_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

const bool memory_table_kind_registered =
    TableKindRegistry::instance().add<MemoryTableKind, MemoryDefinition>(
        "memory",
        "right answers of memory modules on tasks that need a memory, and what they cost");

}  // namespace

}  // namespace reverie
