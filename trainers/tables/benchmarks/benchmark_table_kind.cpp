// The kind "benchmarks": right answers of models with latents, of models that write their steps, and
// of their controls, item by item. Models are trained on a task, or a published model is asked that
// was not ("asked").
// A model may begin with another one's weights ("from"): "augmented" and "coconut" have them as their
// base, "pretrained" as its path. A staged model's stage s is a run of its own.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "datasets/problems/problem_generator.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/benchmarks/problem_answers.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/benchmarks/asked_model.h"
#include "trainers/tables/benchmarks/benchmark_table.h"
#include "trainers/tables/benchmarks/benchmark_table_definition.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/run_export.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

constexpr const char* kAnswersFile = "problem_answers.json";
constexpr const char* kAnswersFormat = "reverie problem answers 1";

bool among(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Json answers_json(const ProblemAnswers& a) {
  Json right = Json::array();
  for (const double value : a.right) right.push_back(int(value));
  return {{"right", right}, {"tokens", a.mean_written()}, {"milliseconds", a.milliseconds}};
}

class BenchmarkTableKind final : public TableKind {
 public:
  BenchmarkTableKind(const BenchmarkTableDefinition& definition, const TableFile& t)
      : table_(t),
        definition_(definition),
        preset_(definition.presets.at(t.preset_name, "")),
        asked_(preset_.asked, preset_.measure, definition_.shuffled, t.output_directory, t.device) {
    if (preset_.asked.given()) {
      tasks_ = preset_.asked.tasks.names();
      return;
    }
    tasks_ = preset_.tasks.empty() ? definition_.tasks.names() : preset_.tasks;
    for (const auto& task : tasks_) definition_.tasks.at(task, "$.tasks");
    for (const auto& [task, patch] : preset_.task_patches) definition_.tasks.at(task, "$.tasks");
    require_order();
    for (const auto& task : tasks_) add_cells(task);
  }

  std::vector<PlannedCell> cells() const override {
    std::vector<PlannedCell> cells;
    for (const Cell& cell : cells_) cells.push_back(cell.planned);
    return cells;
  }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    const std::string& task = at(cell).task;
    merge_patch(config, definition_.tasks.at(task, "$.tasks"));
    if (const Json* patch = preset_.task_patches.find(task)) merge_patch(config, *patch);
  }
  void set_cell_values(const PlannedCell& planned, Config& config) const override;
  void set_earlier_paths(const PlannedCell& cell, const std::vector<PlannedRun>& earlier,
                         Config& config) const override;
  void check(const PlannedRun& run) const override;
  void measure_finished(const PlannedRun& run) const override;
  void measure_given() const override {
    if (preset_.asked.given()) asked_.measure();
  }
  bool writes_without_runs() const override {
    return preset_.asked.given() && !asked_.finished().empty();
  }
  std::string plan(const std::vector<PlannedRun>& runs) const override;
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  struct Cell {
    PlannedCell planned;
    std::string task;
    int64_t latents = 0, stage = 0;
  };

  void require_order() const {
    std::vector<std::string> known;
    for (const auto& [model, latents] : preset_.cells) {
      definition_.models.at(model, "$.models");
      if (const std::string* other = definition_.from.find(model); other && !among(known, *other))
        throw ConfigError(
            fmt::format("{}.cells: {} begins with the weights of {}, which must stand before it",
                        table_.preset_path(), model, *other));
      known.push_back(model);
    }
  }
  void add_cells(const std::string& task) {
    for (const auto& [model, latents] : preset_.cells) {
      if (among(definition_.staged, model)) {
        const int64_t stages = preset_.stages.at(task, table_.preset_path() + ".stages");
        for (int64_t stage = 1; stage <= stages; ++stage)
          cells_.push_back(
              {{model, stage, fmt::format("{}-stage{}", task, stage)}, task, 0, stage});
        continue;
      }
      if (latents.empty()) cells_.push_back({{model, 0, task}, task});
      for (const int64_t count : latents)
        cells_.push_back({{model, count, fmt::format("{}-{}", task, count)}, task, count});
    }
  }
  // The stages of a model share the steps that others of its table have.
  void share_steps(const Cell& cell, Config& config) const {
    TrainingOptions train;
    if (config.has("train")) read_config(config.at("train"), train);
    const int64_t stages = preset_.stages.at(cell.task, table_.preset_path() + ".stages");
    if (train.steps < stages)
      throw ConfigError(fmt::format("{}.stages.{}: {} stages share {} steps of training ($.train)",
                                    table_.preset_path(), cell.task, stages, train.steps));
    config.set("train.steps", train.steps / stages + (cell.stage <= train.steps % stages));
    config.set("data.examples.stage", cell.stage);
  }
  const Cell& at(const PlannedCell& planned) const {
    for (const Cell& cell : cells_)
      if (cell.planned.model == planned.model && cell.planned.level_name == planned.level_name)
        return cell;
    throw InternalError(fmt::format("no cell {} on {}", planned.model, planned.level_name));
  }
  // Whether another model, or its own next stage, may begin with this run's weights.
  bool is_begun_with(const Cell& cell) const {
    if (cell.stage > 0 &&
        cell.stage < preset_.stages.at(cell.task, table_.preset_path() + ".stages"))
      return true;
    return std::any_of(definition_.from.begin(), definition_.from.end(),
                       [&](const auto& entry) { return entry.second == cell.planned.model; });
  }
  bool shuffles(const Cell& cell) const {
    return cell.latents > 0 && among(definition_.shuffled, cell.planned.model);
  }
  // Cache key of a stored measurement.
  Json wanted(const Cell& cell) const {
    return {{"format", kAnswersFormat},
            {"items", preset_.measure.items},
            {"batch_tokens", preset_.measure.batch_tokens},
            {"latents", cell.latents},
            {"shuffled", shuffles(cell)}};
  }
  // The run's own measurement and, where there is one, that with shuffled latents; none where it was
  // not measured as this table wants.
  std::vector<BenchmarkRun> measured(const PlannedRun& run) const;
  void measure(const Cell& cell, const LoadedRun& loaded, const std::string& directory) const;

  TableFile table_;
  BenchmarkTableDefinition definition_;
  BenchmarkPreset preset_;
  AskedBenchmarks asked_;
  std::vector<std::string> tasks_;
  std::vector<Cell> cells_;
};

void BenchmarkTableKind::set_cell_values(const PlannedCell& planned, Config& config) const {
  const Cell& cell = at(planned);
  if (cell.stage > 0) share_steps(cell, config);
  const bool has_latents = config.has("model") && config.at("model").has("latents");
  if (has_latents != (cell.latents > 0))
    throw ConfigError(fmt::format(
        "{}.cells.{}: {}", table_.preset_path(), planned.model,
        has_latents
            ? "the list is empty, but this model has latents; wanted their numbers, such as "
              "[4, 16]"
            : "latents are asked for, but this model has none; wanted []"));
  if (has_latents) config.set("model.latents.count", cell.latents);
}

void BenchmarkTableKind::set_earlier_paths(const PlannedCell& planned,
                                           const std::vector<PlannedRun>& earlier,
                                           Config& config) const {
  const Cell& cell = at(planned);
  const std::string* begins_with = definition_.from.find(planned.model);
  if (!begins_with) return;
  const std::string& model = cell.stage > 1 ? planned.model : *begins_with;
  std::string before;
  for (const PlannedRun& r : earlier) {
    const Cell& other = at(r.cell);
    if (other.task != cell.task || r.cell.model != model) continue;
    if (cell.stage <= 1 || other.stage == cell.stage - 1) before = r.directory;
  }
  if (before.empty())
    throw ConfigError(fmt::format(
        "{}: {} begins with the weights of {}, which is not trained with the same seed: correct "
        "\"model_seeds\"",
        table_.preset_path(), planned.model, model));
  config.set(type_of_model(config) == "pretrained" ? "model.path" : "model.base",
             export_of(before));
}

void BenchmarkTableKind::check(const PlannedRun& run) const {
  const ExperimentOptions e = read_experiment_as_written(run.config, table_.directory);
  const std::string where = fmt::format("{} on {}", run.cell.model, at(run.cell).task);
  if (!e.data.problems.given() && !e.data.examples.given())
    throw ConfigError(fmt::format(
        "{}: the data have no questions and answers: wanted $.data.problems or $.data.examples in "
        "$.tasks",
        where));
  if (e.model.type == "augmented" &&
      component_options<AugmentedOptions>(e.model).insert != "targets")
    throw ConfigError(fmt::format(
        "{}: $.model.insert is \"drawn\", so that latents are trained to stand anywhere "
        "in a question; wanted \"targets\" (with groups 1), where they stand when it is "
        "answered",
        where));
}

void BenchmarkTableKind::measure_finished(const PlannedRun& run) const {
  const bool exported = !is_begun_with(at(run.cell)) || !export_is_due(run.directory),
             answered = !measured(run).empty();
  if (exported && answered) return;
  const LoadedRun loaded = load_run(run.directory);
  if (!exported) export_run(loaded, run.directory);
  if (!answered) measure(at(run.cell), loaded, run.directory);
}

void BenchmarkTableKind::measure(const Cell& cell, const LoadedRun& loaded,
                                 const std::string& directory) const {
  const Activity activity("answering held-out problems");
  const Dataset data = open_run_data(directory, loaded, false).data;
  const auto answers = [&](bool shuffled) {
    return answer_problems(*loaded.model, data.validation, *data.examples,
                           {preset_.measure.items, preset_.measure.batch_tokens, cell.latents > 0,
                            shuffled, loaded.step});
  };
  const ProblemAnswers own = answers(false);
  Verdict verdict = loaded.verdict;
  verdict.merge(own.verdict);
  const Component& problems = loaded.options.data.problems;
  Json json = {
      {"of", wanted(cell)},
      {"items_hash", data.provenance.at("source").at("hash")},
      {"all_items", data.validation.count() / data.examples->length},
      {"chance",
       problems.given() ? Json(ProblemRegistry::instance().make(problems)->chance()) : Json()},
      {"own", answers_json(own)}};
  if (shuffles(cell)) {
    const ProblemAnswers shuffled = answers(true);
    verdict.merge(shuffled.verdict);
    json["shuffled"] = answers_json(shuffled);
  }
  json["verdict"] = verdict.json();
  name_checkpoint(json, loaded.checkpoint);
  keep_leak(directory, verdict);
  write_file_atomically(directory + "/" + kAnswersFile, json_text(json) + "\n");
}

std::vector<BenchmarkRun> BenchmarkTableKind::measured(const PlannedRun& run) const {
  const Cell& cell = at(run.cell);
  const std::string file = run.directory + "/" + kAnswersFile;
  const Json json = kept_measurement(file, wanted(cell), run.directory);
  if (json.is_null()) return {};
  std::vector<BenchmarkRun> out;
  try {
    for (const char* part : {"own", "shuffled"}) {
      if (!json.contains(part)) continue;
      BenchmarkRun r;
      r.cell = {cell.task, run.cell.model, cell.latents, cell.stage, part[0] == 's'};
      r.seed = run.seed;
      r.right = json.at(part).at("right").get<std::vector<double>>();
      r.tokens = json.at(part).at("tokens");
      r.milliseconds = json.at(part).at("milliseconds");
      r.items_hash = json.at("items_hash");
      r.all_items = json.at("all_items");
      if (json.at("chance").is_number()) r.chance = json.at("chance");
      r.summary = read_summary(run.directory);
      // Models of one task have its problems in records of different forms.
      r.summary["dataset"]["hash"] = r.items_hash;
      r.verdict = Verdict::of_file(json);
      r.verdict.merge(Verdict::of_file(r.summary));
      r.directory = run.directory;
      out.push_back(std::move(r));
    }
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("{} is not a complete measurement: {}", file, e.what()));
  }
  return out;
}

std::string BenchmarkTableKind::plan(const std::vector<PlannedRun>& runs) const {
  if (preset_.asked.given()) return asked_.plan();
  std::string out = fmt::format("{:<20} {:<24} {:>7} {:>6} {:>6} {:>8}\n", "model", "task",
                                "latents", "stage", "seed", "steps");
  for (const PlannedRun& r : runs) {
    const Cell& cell = at(r.cell);
    out += fmt::format("{:<20} {:<24} {:>7} {:>6} {:>6} {:>8}\n", r.cell.model, cell.task,
                       cell.latents, cell.stage, r.seed,
                       read_experiment(r.config, table_.directory).train.steps);
  }
  return out;
}

std::vector<std::string> BenchmarkTableKind::write(const std::vector<PlannedRun>& finished,
                                                   int64_t planned) const {
  std::vector<BenchmarkRun> runs;
  Provenance provenance;
  const bool asked = preset_.asked.given();
  if (asked) {
    runs = asked_.finished();
    planned = asked_.planned();
    for (const std::string& task : tasks_)
      for (const BenchmarkRun& run : runs)
        if (run.cell.task == task) {
          provenance.data_of_parts.push_back({task, task, run.items_hash, ""});
          break;
        }
  }
  for (const PlannedRun& r : finished)
    for (BenchmarkRun& run : measured(r)) runs.push_back(std::move(run));
  if (runs.empty()) return {};
  BenchmarkTable table = build_benchmark_table(definition_.report, table_.heading(planned),
                                               {asked ? kAskedBase : definition_.baseline, tasks_,
                                                definition_.compared, preset_.measure.resamples},
                                               runs, std::move(provenance));
  if (asked) {
    table.finished_runs = int64_t(runs.size());
    add_gaps(table, asked_.gaps());
    add_missing_runs(table, asked_.missing_runs());
  }
  const std::string& directory = table_.output_directory;
  const auto plots = benchmark_plot_files(table);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  write_file_atomically(directory + "/table.json",
                        json_text(benchmark_table_json(table), 2) + "\n");
  write_file_atomically(directory + "/table.csv", benchmark_table_csv(table));
  write_file_atomically(directory + "/table.md", benchmark_table_markdown(table, plots));
  write_file_atomically(directory + "/report.html", benchmark_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

const bool registered =
    TableKindRegistry::instance().add<BenchmarkTableKind, BenchmarkTableDefinition>(
        "benchmarks",
        "right answers with latents, with written steps, and of their controls, item by item");

}  // namespace

}  // namespace reverie
