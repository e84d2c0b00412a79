// The kind "latent_effect": what latents beside a base change in its perplexity by position, with
// the controls that a coprocessor must beat. Besides the keys of all tables (repro.h):
//   "augmented": the patch of all models with latents; "measure": {...}, see MeasureOptions;
//   "shuffled": [MODEL, ...], models that are measured with latents of other documents, too
// and in a preset
//   "cells": {MODEL: [LATENTS, ...]}, an empty list for a model without latents;
//   "base_model": the path of a pretrained model, or "pretraining": the patch of a run that trains
//   the base first; "augmented" and "measure": patches; "base_shape": a "model" of the base's
//   shape, for planning before its weights are there.
// Models are "augmented" (their base is set) or "pretrained" (their path is: continued training).

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/pretrained/load.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/latents/latent_plan.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/table_kind.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

constexpr const char* kMeasurementFile = "latent_effect.json";
constexpr const char* kFormat = "reverie latent effect 1";

struct MeasureOptions final : Fieldset {
  int64_t positions = 32, groups = 16, windows = 0, batch_size = 8, resamples = 1000;
  std::vector<int64_t> shown{1, 2, 4, 8, 16, 32};
  void fields(Fields& f) override {
    f.integer("positions", positions, kPositive, "tokens scored after each insertion");
    f.integer("groups", groups, kPositive, "insertion points in each text, evenly spaced");
    f.integer("windows", windows, kNonNegative, "held-out texts; 0: all that fit");
    f.integer("batch_size", batch_size, {2, 1 << 20},
              "texts per forward; latents are shuffled between them");
    f.integer("resamples", resamples, kNonNegative, "of texts, for the 95 % intervals");
    f.integers("shown", shown, kPositive, "positions in table.md");
  }
};

class LatentTableKind final : public TableKind {
 public:
  explicit LatentTableKind(const TableFile& t) : table_(t) {
    Config measure = t.config.has("measure") ? t.config.at("measure") : Config();
    if (t.preset.has("measure")) measure.merge(t.preset.at("measure"));
    read_config(measure, measure_);
    if (t.config.has("shuffled")) shuffled_ = list_at<std::string>(t.config, "shuffled");
    for (const auto& name : shuffled_) t.config.at("models").at(name);
    const Config cells = t.preset.at("cells");
    for (const auto& [model, latents] : cells.json().items()) {
      const auto numbers = list_at<int64_t>(cells, model);
      if (numbers.empty()) cells_.push_back({model, 0});
      for (const int64_t number : numbers) cells_.push_back({model, number});
    }
    const bool given = t.preset.has("base_model"), trained = t.preset.has("pretraining");
    if (given == trained)
      throw ConfigError(
          fmt::format("{} wants either \"base_model\" (the path of a pretrained model) or "
                      "\"pretraining\" (the patch of a run that makes it), and has {}",
                      t.preset.path(), given ? "both" : "neither"));
    if (given) base_ = text_at(t.preset.json(), "base_model", t.preset.path(), true);
  }

  std::vector<PlannedCell> cells() const override { return cells_; }
  std::optional<Config> preliminary() const override {
    if (!table_.preset.has("pretraining")) return std::nullopt;
    return table_.preset.at("pretraining");
  }
  void set_preliminary(const std::string& run_directory) override {
    base_ = export_of(run_directory);
  }
  void start(const PlannedCell& cell, Config& config) const override {
    for (const Config& c : {table_.config, table_.preset})
      if (cell.level > 0 && c.has("augmented")) config.merge(c.at("augmented"));
  }
  void complete(const PlannedCell& cell, Config& config) const override;
  void finish(const PlannedRun& run) const override;
  std::string plan(const std::vector<PlannedRun>& runs) const override;
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  static std::string export_of(const std::string& run_directory) {
    return run_directory + "/hugging_face";
  }
  bool is_shuffled(const std::string& model) const {
    return std::find(shuffled_.begin(), shuffled_.end(), model) != shuffled_.end();
  }
  // What a measurement must be of to be used again.
  Json wanted(const PlannedRun& run) const {
    return {{"format", kFormat},
            {"base", base_},
            {"positions", measure_.positions},
            {"groups", measure_.groups},
            {"windows", measure_.windows},
            {"batch_size", measure_.batch_size},
            {"shuffled", is_shuffled(run.cell.model)}};
  }
  void measure(const PlannedRun& run) const;
  // Sets how many latents the cell's source makes; several sources share them evenly.
  void share_latents(const PlannedCell& cell, Config& config) const;

  TableFile table_;
  MeasureOptions measure_;
  std::vector<std::string> shuffled_;
  std::vector<PlannedCell> cells_;
  std::string base_;
};

void LatentTableKind::share_latents(const PlannedCell& cell, Config& config) const {
  const Config latents = config.at("model").at("latents");
  if (!latents.has("sources")) {
    config.set("model.latents.count=" + std::to_string(cell.level));
    return;
  }
  const int64_t sources = int64_t(latents.json().at("sources").size());
  if (sources == 0 || cell.level % sources != 0)
    throw ConfigError(
        fmt::format("{}.cells.{}: {} latents cannot be shared evenly by its {} sources",
                    table_.preset.path(), cell.model, cell.level, sources));
  for (int64_t i = 0; i < sources; ++i)
    config.set(fmt::format("model.latents.sources.{}.count={}", i, cell.level / sources));
}

void LatentTableKind::complete(const PlannedCell& cell, Config& config) const {
  const Config model = config.at("model");
  if (model.has("latents") != (cell.level > 0))
    throw ConfigError(
        fmt::format("{}.cells.{}: {}", table_.preset.path(), cell.model,
                    cell.level > 0 ? fmt::format("{} latents are asked of a model that has none; "
                                                 "wanted []",
                                                 cell.level)
                                   : "the list is empty, but this model has latents; wanted their "
                                     "numbers, such as [8, 16]"));
  const std::string type = text_at(model.json(), "type", "$.model", true);
  if (type == "augmented") {
    config.set("model.base=" + json_text(Json(base_)));
    share_latents(cell, config);
  } else if (type == "pretrained") {
    config.set("model.path=" + json_text(Json(base_)));
  } else {
    throw ConfigError(
        fmt::format("$.models.{}: a table of latents compares models of type \"augmented\" and "
                    "\"pretrained\" (continued training) with their base, not \"{}\"",
                    cell.model, type));
  }
}

void LatentTableKind::finish(const PlannedRun& run) const {
  if (!run.in_table) {
    const std::string directory = export_of(run.directory);
    if (std::filesystem::exists(directory + "/config.json")) return;
    LoadedRun loaded = load_run(run.directory);
    const std::string making = directory + ".making";
    export_hugging_face(*loaded.model, loaded.options.model, loaded.tokenizer.get(), making);
    rename_durably(making, directory);
    return;
  }
  const std::string file = run.directory + "/" + kMeasurementFile;
  if (std::filesystem::exists(file) &&
      Config::from_file(file).json().value("of", Json()) == wanted(run))
    return;
  measure(run);
}

void LatentTableKind::measure(const PlannedRun& run) const {
  log_info("measuring {} at positions 1 to {}", run.directory, measure_.positions);
  const LoadedRun loaded = load_run(run.directory);
  const LoadedModel base = load_pretrained(base_);
  const Dataset data = open_dataset(loaded.options.data);
  const int64_t length = loaded.model->block_size();
  const auto windows = [&](int64_t count) {
    return data.documents ? EvaluationWindows::of_documents(data.validation, *data.documents,
                                                            measure_.batch_size, length, count)
                          : EvaluationWindows(data.validation, measure_.batch_size, length, count);
  };
  EvaluationWindows texts = windows(measure_.windows);
  // A text alone in its batch has nobody to change latents with.
  if (texts.window_count() % measure_.batch_size == 1) texts = windows(texts.window_count() - 1);
  LatentEffectOptions options;
  options.positions = measure_.positions;
  options.groups = measure_.groups;
  const LatentMeasurement m =
      measure_latents(*loaded.model, *base.model, texts, options, is_shuffled(run.cell.model));
  // A source may keep still at the run's sizes and read ahead at the table's.
  Verdict verdict = loaded.verdict;
  if (auto* augmented = dynamic_cast<AugmentedModel*>(loaded.model.get())) {
    const Tensor tokens = texts.batch(0).tokens,
                 donors = texts.batch(texts.batch_count() - 1).tokens;
    const LatentSizes sizes{measure_.groups, measure_.positions};
    const Asking asking{loaded.step};
    verdict.merge(ask_latents(*augmented, tokens, donors, sizes, asking));
    verdict.merge(ask_separate_groups(*augmented, tokens, sizes, measure_.groups, asking));
  }
  if (verdict.leaks()) log_warning("{}: {}", run.directory, verdict.line());
  write_file_atomically(run.directory + "/" + kMeasurementFile,
                        json_text(Json{{"of", wanted(run)},
                                       {"checkpoint", loaded.checkpoint},
                                       {"verdict", verdict.json()},
                                       {"measured", m.json()}}) +
                            "\n");
}

std::string LatentTableKind::plan(const std::vector<PlannedRun>& runs) const {
  const auto of_shape = [&](const Config& shape, const std::string& name) {
    Component component = resolve_component(ModelRegistry::instance(), shape);
    // The data's vocabulary is not known yet; characters are about so many.
    if (model_field(component, "vocab_size", -1) == 0)
      component = with_model_field(component, "vocab_size", 65);
    Generator unused(1);
    const auto model =
        ModelRegistry::instance().make(component, Build{unused, DType::f32, Device{}, false});
    model->freeze();
    return plan_latent_table(dynamic_cast<const Transformer&>(*model), name, runs,
                             table_.directory);
  };
  if (table_.preset.has("base_shape"))
    return of_shape(table_.preset.at("base_shape"), base_ + " (by its shape)");
  if (!runs[0].in_table) return of_shape(runs[0].config.at("model"), "trained by the first run");
  const LoadedModel base = load_pretrained(base_);
  return plan_latent_table(dynamic_cast<const Transformer&>(*base.model), base_, runs,
                           table_.directory);
}

std::vector<std::string> LatentTableKind::write(const std::vector<PlannedRun>& finished,
                                                int64_t planned) const {
  std::vector<LatentRun> runs;
  for (const PlannedRun& r : finished) {
    const std::string file = r.directory + "/" + kMeasurementFile;
    if (!std::filesystem::exists(file)) continue;  // finished, but not yet its turn
    const Config measured = Config::from_file(file);
    if (measured.json().value("of", Json()) != wanted(r)) continue;
    const Json summary = read_summary(r.directory);
    Verdict verdict = Verdict::of_file(summary);
    verdict.merge(Verdict::of_file(measured.json()));
    runs.push_back({r.cell.model, r.cell.level, r.seed, summary,
                    LatentMeasurement::from_json(measured.at("measured").json()), r.directory,
                    verdict});
  }
  if (runs.empty()) return {};
  Json definition = table_.config.at("report").json();
  definition["title"] = table_.config.at("title").json();
  definition["preset"] = table_.preset_name;
  definition["command"] = table_.command;
  definition["planned_runs"] = planned;
  definition["shown"] = measure_.shown;
  definition["base"] = base_;
  const LatentTable table = build_latent_table(definition, runs, measure_.resamples);
  const std::string& directory = table_.output_directory;
  write_file_atomically(directory + "/table.json", json_text(latent_table_json(table), 2) + "\n");
  write_file_atomically(directory + "/table.md", latent_table_markdown(table));
  write_file_atomically(directory + "/table.csv", latent_table_csv(table));
  write_file_atomically(directory + "/report.html", latent_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

}  // namespace

TableKindEntry latent_table_kind() {
  return {"latent_effect",
          {"augmented", "measure", "shuffled"},
          {"cells", "base_model", "base_shape", "pretraining", "augmented", "measure"},
          [](const TableFile& t) -> std::unique_ptr<TableKind> {
            return std::make_unique<LatentTableKind>(t);
          }};
}

}  // namespace reverie
