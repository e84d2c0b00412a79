// The kind "explained": what a decoder can put into words of a frozen run's memory, and of controls.
// The base is trained first; its cells are decoders (models) on uses, whose patches have data of
// examples.

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/explained/explained_table.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

constexpr const char* kMeasurementFile = "written.json";
constexpr const char* kFormat = "reverie written of a memory 1";

struct MeasureOptions final : Fieldset {
  int64_t records = 400, batch_size = 32;
  void fields(Fields& f) override {
    f.integer("records", records, kNonNegative,
              "records of the validation part, evenly spaced; 0: all");
    f.integer("batch_size", batch_size, kPositive, "records that are read side by side");
  }
};

struct ExplainedPreset final : TablePreset {
  std::vector<std::string> models, uses;
  Json base_run, decoder_run;
  MeasureOptions measure;
  void fields(Fields& f) override {
    TablePreset::fields(f);
    f.texts("models", models, "the decoders that are trained; none: all");
    f.texts("uses", uses, "the uses that they are trained for; none: all");
    f.patch("base_run", base_run, "merged into the table's base_run");
    f.patch("decoder_run", decoder_run, "merged into the table's decoder_run");
    f.object("measure", measure, "how finished decoders are measured");
    model_fields(f);
  }
};

struct ExplainedDefinition final : TableDefinitionWith<ExplainedPreset> {
  ExplainedDefinition() : TableDefinitionWith("explained") {}
  TableReport report;
  Json base_run, decoder_run;
  Named<Json> uses;
  void fields(Fields& f) override {
    TableDefinition::fields(f);
    f.object("report", report, "texts beside the table");
    f.required().patch(
        "base_run", base_run,
        "what the run whose memory is read has beside \"base\"; it is trained first");
    f.required().patch("decoder_run", decoder_run,
                       "what the runs of decoders have beside \"base\"; model.base is set");
    model_fields(f);
    describe_patches(f.required(), "uses", uses,
                     "by name: patches with \"data.examples\", what a decoder learns to write");
    for (const std::string& use : uses.names())
      f.rule(use.find_first_not_of(
                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
                 std::string::npos,
             fmt::format(
                 "uses: \"{}\" names directories, so it may have letters, digits and _ only", use));
    preset_fields(f);
  }
};

class ExplainedTableKind final : public TableKind {
 public:
  ExplainedTableKind(const ExplainedDefinition& definition, const TableFile& t)
      : table_(t), definition_(definition), preset_(definition.presets.at(t.preset_name, "")) {
    models_ = preset_.models.empty() ? definition_.models.names() : preset_.models;
    uses_ = preset_.uses.empty() ? definition_.uses.names() : preset_.uses;
    for (const auto& model : models_) definition_.models.at(model, "$.models");
    for (const auto& use : uses_) definition_.uses.at(use, "$.uses");
  }

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (size_t i = 0; i < uses_.size(); ++i)
      for (const auto& model : models_) cells.push_back({model, int64_t(i) + 1, uses_[i]});
    return cells;
  }
  std::optional<Json> preliminary() const override {
    Config patch(definition_.base_run, "$.base_run");
    merge_patch(patch, preset_.base_run);
    return patch.json();
  }
  void set_preliminary(const PlannedRun& run) override {
    base_ = run.directory;
    const Json& model = run.config.json().at("model");
    base_remembers_ = model.value("type", "") == "augmented" ||
                      (model.contains("memory") && !model["memory"].is_null());
  }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    merge_patch(config, definition_.decoder_run);
    merge_patch(config, preset_.decoder_run);
    merge_patch(config, definition_.uses.at(cell.level_name, "$.uses"));
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override {
    if (const std::string type = type_of_model(config); type != "explained")
      throw ConfigError(fmt::format(
          "{} on {}: $.model.type is \"{}\", wanted \"explained\": the table compares decoders",
          cell.model, cell.level_name, type));
    if (config.json()["model"].value("reads", "memory") == "memory" && !base_remembers_)
      throw ConfigError(
          fmt::format("{} on {}: $.model.reads is memory, but the base has none: wanted "
                      "$.base_run.model.memory, "
                      "or \"reads\": \"final_state\"",
                      cell.model, cell.level_name));
    config.set("model.base", base_);
  }
  void measure_finished(const PlannedRun& run) const override;
  std::string plan(const std::vector<PlannedRun>& runs) const override {
    std::string out = fmt::format("{:<24} {:<12} {:>6}\n", "run", "use", "steps");
    for (const PlannedRun& r : runs)
      if (r.seed == runs[0].seed || !r.in_table)
        out += fmt::format("{:<24} {:<12} {:>6}\n", r.cell.model,
                           r.cell.level_name.empty() ? "-" : r.cell.level_name,
                           read_experiment_as_written(r.config, table_.directory).train.steps);
    return out;
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  // Cache key of a stored measurement.
  Json wanted() const {
    return {{"format", kFormat},
            {"records", preset_.measure.records},
            {"batch_size", preset_.measure.batch_size}};
  }
  Json stored(const std::string& directory) const {
    return kept_measurement(directory + "/" + kMeasurementFile, wanted(), directory);
  }

  // Finished decoders stand in the table only beside the base that they were trained on.
  void require_base(const std::string& directory) const {
    if (base_hash_.empty()) base_hash_ = explained_base_hash(base_);
    const ExperimentOptions options = read_run_config(directory);
    const auto& decoder = component_options<ExplainedOptions>(options.model);
    if (decoder.base_hash == base_hash_) return;
    throw DataError(
        fmt::format("{} was trained on the memory of a base with the hash {}, and {} has {} now: "
                    "it was trained "
                    "on or replaced. Restore the base, or move the finished runs of decoders away, "
                    "so that they "
                    "are trained anew",
                    directory, decoder.base_hash, base_, base_hash_));
  }

  TableFile table_;
  ExplainedDefinition definition_;
  ExplainedPreset preset_;
  std::vector<std::string> models_, uses_;
  std::string base_;
  bool base_remembers_ = false;    // it has a memory that a decoder may read
  mutable std::string base_hash_;  // as it is on disk; "": not read yet
};

void ExplainedTableKind::measure_finished(const PlannedRun& run) const {
  if (!run.in_table) return;
  require_base(run.directory);
  if (!stored(run.directory).is_null()) return;
  const LoadedRun loaded = load_run(run.directory);
  auto* model = dynamic_cast<ExplainedModel*>(loaded.model.get());
  if (!model) throw InternalError("a run of a table of decoders has no decoder");
  const RunData opened = open_run_data(run.directory, loaded, false);
  Activity activity("measuring what is written of the memory");
  ForwardAudit audit = ForwardAudit::once(loaded.step);
  const WrittenMeasurement measured = measure_written(
      *model, opened.data, preset_.measure.records, preset_.measure.batch_size,
      [&](int64_t done, int64_t all) { activity.reach(done, all); }, &audit);
  Verdict verdict = loaded.verdict;
  verdict.merge(audit.verdict());
  if (verdict.leaks()) log_warning("{}: {}", run.directory, verdict.line());
  keep_leak(run.directory, verdict);
  Json json = measured.json();
  json["of"] = wanted();
  json["reads"] = model->options().reads;
  name_checkpoint(json, loaded.checkpoint);
  json["verdict"] = verdict.json();
  write_file_atomically(run.directory + "/" + kMeasurementFile, json_text(json, 2) + "\n");
}

std::vector<std::string> ExplainedTableKind::write(const std::vector<PlannedRun>& finished,
                                                   int64_t planned) const {
  std::vector<ExplainedRun> runs;
  for (const PlannedRun& r : finished) {
    const Json json = stored(r.directory);
    if (json.is_null()) continue;
    runs.push_back({r.cell.model, r.cell.level_name, r.seed, json.at("reads"),
                    read_summary(r.directory), r.directory, WrittenMeasurement::from_json(json),
                    Verdict::of_file(json)});
    runs.back().verdict.merge(Verdict::of_file(runs.back().summary));
  }
  if (runs.empty()) return {};
  const ExplainedTable table =
      build_explained_table(definition_.report, table_.heading(planned), uses_, runs);
  const std::string& directory = table_.output_directory;
  write_file_atomically(directory + "/table.json",
                        json_text(explained_table_json(table), 2) + "\n");
  write_file_atomically(directory + "/table.csv", explained_table_csv(table));
  const auto plots = explained_plot_files(table);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  write_file_atomically(directory + "/table.md", explained_table_markdown(table, plots));
  write_file_atomically(directory + "/report.html", explained_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

const bool explained_table_kind_registered =
    TableKindRegistry::instance().add<ExplainedTableKind, ExplainedDefinition>(
        "explained", "what decoders put into words of a frozen run's memory, and of controls");

}  // namespace
}  // namespace reverie
