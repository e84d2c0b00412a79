// The kind "reasoning": answers to held-out examples by stage of a curriculum that replaces written
// steps of reasoning by thoughts (Coconut, Hao et al. 2024), beside its controls.
// Every model is a "coconut". Its stage s is a run of its own, so that optimizer and schedule begin
// anew, on weights of its stage s - 1, and with data.examples.stage s unless the model says
// another.

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/pretrained/load.h"
#include "trainers/generation/answer_accuracy.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/reasoning/reasoning_table.h"
#include "trainers/tables/run_export.h"
#include "trainers/tables/table_kind.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

constexpr const char* kAnswersFile = "answers.json";
constexpr const char* kFormat = "reverie answers 1";

struct MeasureOptions final : Fieldset {
  int64_t examples = 0, train_examples = 50;
  void fields(Fields& f) override {
    f.integer("examples", examples, kNonNegative, "held-out examples; 0: all");
    f.integer("train_examples", train_examples, kNonNegative,
              "number of examples of the training part, evenly spaced; 0: all");
  }
};

Json counted(const AnswerAccuracy& a) {
  return {{"right", a.right}, {"of", a.examples}, {"tokens_written", a.written}};
}

struct ReasoningPreset final : TablePreset {
  std::vector<std::string> models;
  int64_t stages = 0;
  Json pretraining;
  MeasureOptions measure;
  void fields(Fields& f) override {
    TablePreset::fields(f);
    f.required().texts("models", models, "the models that are trained");
    f.integer("stages", stages, kPositive, "stages of the curriculum after stage 0");
    f.required().patch(
        "pretraining", pretraining,
        "the run of stage 0, on whole chains of thought, that all models begin from");
    f.object("measure", measure, "how answers are counted");
    model_fields(f);
  }
};

struct ReasoningDefinition final : TableDefinitionWith<ReasoningPreset> {
  ReasoningDefinition() : TableDefinitionWith("reasoning") {}
  TableReport report;
  void fields(Fields& f) override {
    TableDefinition::fields(f);
    f.object("report", report, "texts beside the table");
    model_fields(f);
    preset_fields(f);
  }
};

class ReasoningTableKind final : public TableKind {
 public:
  ReasoningTableKind(const ReasoningDefinition& definition, const TableFile& t)
      : table_(t),
        report_(definition.report),
        preset_(definition.presets.at(t.preset_name, "")),
        measure_(preset_.measure) {}

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (int64_t stage = 1; stage <= preset_.stages; ++stage)
      for (const auto& model : preset_.models) cells.push_back({model, stage});
    return cells;
  }
  std::optional<Json> preliminary() const override { return preset_.pretraining; }
  void set_preliminary(const PlannedRun& run) override { first_ = run.directory; }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    config.set("data.examples.stage", cell.level);
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override {
    if (const std::string type = type_of_model(config); type != "coconut")
      throw ConfigError(
          fmt::format("$.models.{}: a table of reasoning has models of type "
                      "\"coconut\", not \"{}\"",
                      cell.model, type));
  }
  void set_earlier_paths(const PlannedCell& cell, const std::vector<PlannedRun>& earlier,
                         Config& config) const override {
    std::string before = first_;
    for (const PlannedRun& r : earlier)
      if (r.cell.model == cell.model && r.cell.level == cell.level - 1) before = r.directory;
    config.set("model.base", export_of(before));
  }
  void measure_finished(const PlannedRun& run) const override;
  std::string plan(const std::vector<PlannedRun>& runs) const override;
  // Every stage begins with an export of the one before, of the first run's shape.
  PlannedBase planned_base(const std::vector<PlannedRun>& runs) const override {
    return {runs[0].config.at("model").json()};
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  Json wanted() const {
    return {{"format", kFormat},
            {"examples", measure_.examples},
            {"train_examples", measure_.train_examples}};
  }
  // Null where they were not counted as this table wants.
  Json answers_of(const std::string& directory) const {
    return kept_measurement(directory + "/" + kAnswersFile, wanted(), directory);
  }
  // Of a run, where its answers were counted as this table wants.
  std::optional<ReasoningRun> read(const std::string& directory, const std::string& model,
                                   int64_t stage, int64_t seed) const;
  void count_answers(const LoadedRun& run, const std::string& file) const;

  TableFile table_;
  TableReport report_;
  ReasoningPreset preset_;
  MeasureOptions measure_;
  std::string first_;  // the run of stage 0
};

void ReasoningTableKind::measure_finished(const PlannedRun& run) const {
  const bool answered = !answers_of(run.directory).is_null(),
             exported = !export_is_due(run.directory);
  if (answered && exported) return;
  const LoadedRun loaded = load_run(run.directory);
  if (!exported) export_run(loaded, run.directory);
  if (!answered) count_answers(loaded, run.directory + "/" + kAnswersFile);
}

void ReasoningTableKind::count_answers(const LoadedRun& run, const std::string& file) const {
  const Dataset data = prepare_and_open(run.options.data);
  if (!data.examples)
    throw ConfigError("a table of reasoning needs data of examples: set data.examples.form");
  const auto count = [&](const TokenFile& tokens, int64_t most, const char* part) {
    return counted(answer_accuracy(*run.model, tokens, *data.examples, most, [&](int64_t done) {
      if (done % 100 == 0) log_info("{} examples of the {} part answered", done, part);
    }));
  };
  const Json held_out = count(data.validation, measure_.examples, "held-out"),
             train = count(data.train, measure_.train_examples, "training");
  Json json = {{"of", wanted()},
               {"text_hash", data.provenance.at("source").at("hash")},
               {"held_out", held_out},
               {"train", train}};
  name_checkpoint(json, run.checkpoint);
  write_file_atomically(file, json_text(json, 2) + "\n");
}

std::optional<ReasoningRun> ReasoningTableKind::read(const std::string& directory,
                                                     const std::string& model, int64_t stage,
                                                     int64_t seed) const {
  if (!run_finished(directory)) return std::nullopt;
  const Json answers = answers_of(directory);
  if (answers.is_null()) return std::nullopt;
  Json summary = read_summary(directory);
  // Stages lay the same text out differently.
  summary["dataset"]["hash"] = answers.at("text_hash");
  const auto of = [&](const char* part) {
    const Json& json = answers.at(part);
    return AnswerAccuracy{json.at("of"), json.at("right"), json.at("tokens_written")};
  };
  return ReasoningRun{model, stage, seed, summary, directory, of("held_out"), of("train")};
}

std::string ReasoningTableKind::plan(const std::vector<PlannedRun>& runs) const {
  std::string out = fmt::format("{:<20} {:>6} {:>6} {:>8}\n", "model", "stage", "seed", "steps");
  for (const PlannedRun& r : runs)
    out += fmt::format("{:<20} {:>6} {:>6} {:>8}\n", r.cell.model, r.cell.level, r.seed,
                       read_experiment(r.config, table_.directory).train.steps);
  return out;
}

std::vector<std::string> ReasoningTableKind::write(const std::vector<PlannedRun>& finished,
                                                   int64_t planned) const {
  std::vector<ReasoningRun> runs;
  if (const auto first = read(first_, "", 0, 0)) runs.push_back(*first);
  for (const PlannedRun& r : finished)
    if (const auto run = read(r.directory, r.cell.model, r.cell.level, r.seed))
      runs.push_back(*run);
  if (runs.empty()) return {};
  const ReasoningTable table = build_reasoning_table(report_, table_.heading(planned), runs);
  const std::string& directory = table_.output_directory;
  write_file_atomically(directory + "/table.json",
                        json_text(reasoning_table_json(table), 2) + "\n");
  write_file_atomically(directory + "/table.md", reasoning_table_markdown(table));
  return {"table.md", "table.json"};
}

const bool reasoning_table_kind_registered =
    TableKindRegistry::instance().add<ReasoningTableKind, ReasoningDefinition>(
        "reasoning", "answers to held-out examples, by stage of a curriculum of thoughts");

}  // namespace

}  // namespace reverie
