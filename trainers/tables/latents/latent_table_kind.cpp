// The kind "latent_effect": what latents beside a base change in its perplexity by position, with
// the controls that a coprocessor must beat. Besides the keys of all tables (repro.h):
//   "augmented": the patch of all models with latents; "measure": {...}, see MeasureOptions;
//   "shuffled": [MODEL, ...], models that are measured with latents of other documents, too
// and in a preset
//   "cells": {MODEL: [LATENTS, ...]}, an empty list for a model without latents;
//   "base_model": the path of a pretrained model, or "pretraining": the patch of a run that trains
//   the base first; "augmented" and "measure": patches; "base_shape": a "model" of the base's
//   shape, for planning before its weights are there;
//   "sweep": {"steps": N, "learning_rates": [...], "models": {MODEL: [...]}}: trials of every model
//   (its first number of latents, the first seed), of N steps each, with learning rates of its own
//   where it is named. The one with the lowest loss behind insertions into every fourth held-out
//   text is used, and those texts are in no other figure.
// Models are "augmented" (their base is set) or "pretrained" (their path is: continued training).

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/pretrained/load.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/definition.h"
#include "trainers/tables/latents/latent_plan.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/activity.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

constexpr const char* kMeasurementFile = "latent_effect.json";
constexpr const char* kFormat = "reverie latent effect 2";

struct MeasureOptions final : Fieldset {
  int64_t positions = 32, points = 16, windows = 0, batch_size = 8, resamples = 1000;
  std::string offsets = "drawn";
  std::vector<int64_t> shown{1, 2, 4, 8, 16, 32};
  void fields(Fields& f) override {
    f.integer("positions", positions, kPositive, "tokens scored after each insertion");
    f.text("offsets", offsets, {"drawn", "every"},
           "where latents are inserted into a text; drawn: at offsets that the text itself draws "
           "among all admissible ones; every: at all of them");
    f.integer("points", points, kPositive, "for drawn: insertions into each text");
    f.integer("windows", windows, kNonNegative, "number of held-out texts; 0: all");
    f.integer("batch_size", batch_size, {2, 1 << 20},
              "texts per forward; latents are shuffled between them");
    f.integer("resamples", resamples, kNonNegative,
              "number of resamplings of texts and of their insertions, for the 95 % intervals");
    f.integers("shown", shown, kPositive, "positions in table.md");
  }
};

// Texts on which learning rates are chosen; the others are measured for the table.
constexpr size_t kSelectionStep = 4;

struct Sweep {
  int64_t steps = 0;
  std::map<std::string, std::vector<double>> rates;  // by model
};

Json rate_patch(double rate) {
  return {{"optimizer", {{"learning_rate", rate}, {"minimum_learning_rate", rate / 10}}}};
}

class LatentTableKind final : public TableKind {
 public:
  explicit LatentTableKind(const TableFile& t) : table_(t) {
    Config measure = t.config.has("measure") ? t.config.at("measure") : Config();
    if (t.preset.has("measure")) measure.merge(t.preset.at("measure"));
    if (measure.has("groups"))
      throw ConfigError(
          "$.measure.groups, evenly spaced insertions, is gone: give \"points\", as many "
          "insertions "
          "drawn among all offsets of each text, or \"offsets\": \"every\"");
    read_config(measure, measure_);
    if (t.config.has("shuffled")) shuffled_ = list_at<std::string>(t.config, "shuffled");
    for (const auto& name : shuffled_) t.config.at("models").at(name);
    const Config cells = t.preset.at("cells");
    for (const auto& [model, latents] : cells.json().items()) {
      const auto numbers = list_at<int64_t>(cells, model);
      if (numbers.empty()) cells_.push_back({model, 0});
      for (const int64_t number : numbers) cells_.push_back({model, number});
    }
    if (t.preset.has("sweep")) read_sweep(t.preset.at("sweep"));
    const bool given = t.preset.has("base_model"), trained = t.preset.has("pretraining");
    if (given == trained)
      throw ConfigError(
          fmt::format("{} wants either \"base_model\" (the path of a pretrained model) or "
                      "\"pretraining\" (the patch of a run that makes it), and has {}",
                      t.preset.path(), given ? "both" : "neither"));
    rule_.points = measure_.offsets == "every" ? 0 : measure_.points;
    rule_.positions = measure_.positions;
    rule_.first = 1 + longest_delay();
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
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    for (const Config& c : {table_.config, table_.preset})
      if (cell.level > 0 && c.has("augmented")) config.merge(c.at("augmented"));
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override;
  std::vector<PlannedTrial> trials() const override;
  void set_trials(const std::vector<PlannedRun>& runs) override;
  void measure_finished(const PlannedRun& run) const override;
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
  // The longest "delay" that any model of this preset is given: an insertion that comes too early
  // for one is left out for all.
  int64_t longest_delay() const {
    int64_t longest = 0;
    const auto look = [&](const Config& patch) {
      if (patch.json().is_object() && patch.has("model") && patch.at("model").has("delay"))
        longest = std::max(longest, patch.at("model").json().value("delay", int64_t(0)));
    };
    for (const Config& c : {table_.config, table_.preset})
      if (c.has("augmented")) look(c.at("augmented"));
    look(table_.config.at("base"));
    if (table_.preset.has("patch")) look(table_.preset.at("patch"));
    for (const PlannedCell& cell : cells_) {
      look(table_.config.at("models").at(cell.model));
      if (table_.preset.has("model_patches") && table_.preset.at("model_patches").has(cell.model))
        look(table_.preset.at("model_patches").at(cell.model));
    }
    return longest;
  }
  // Cache key of a stored measurement.
  Json wanted(const PlannedRun& run) const {
    Json out = {{"format", kFormat},
                {"base", base_},
                {"positions", measure_.positions},
                {"rule", rule_.text()},
                {"windows", measure_.windows},
                {"batch_size", measure_.batch_size},
                {"texts", !sweep_     ? "all"
                          : run.trial ? "every fourth"
                                      : "all but every fourth"},
                {"shuffled", is_shuffled(run.cell.model) && !run.trial}};
    if (run.table_data) out["data"] = run.table_data->json();
    return out;
  }
  // What a run is measured on: the table's data, whatever it was trained on.
  Dataset data_of(const PlannedRun& run, const LoadedRun& loaded) const;
  void read_sweep(const Config& config);
  // Whether the run's measurement is there and of what is wanted now.
  std::optional<LatentMeasurement> measurement_of(const PlannedRun& run) const;
  std::string sweep_note() const;
  void measure(const PlannedRun& run) const;
  // Sets how many latents the cell's source makes; several sources share them evenly.
  void share_latents(const PlannedCell& cell, Config& config) const;

  TableFile table_;
  MeasureOptions measure_;
  InsertionRule rule_;
  std::optional<Sweep> sweep_;
  // Of each model's trials that have finished: losses by rate. Only of models with all of them.
  std::map<std::string, std::map<double, double>> tried_;
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

void LatentTableKind::set_cell_values(const PlannedCell& cell, Config& config) const {
  const Config model = config.at("model");
  if (model.has("latents") != (cell.level > 0))
    throw ConfigError(
        fmt::format("{}.cells.{}: {}", table_.preset.path(), cell.model,
                    cell.level > 0 ? fmt::format("{} latents are asked for, but this model has "
                                                 "none; wanted []",
                                                 cell.level)
                                   : "the list is empty, but this model has latents; wanted their "
                                     "numbers, such as [8, 16]"));
  if (const auto tried = tried_.find(cell.model); tried != tried_.end()) {
    const auto best =
        std::min_element(tried->second.begin(), tried->second.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    config.merge(Config(rate_patch(best->first), "$.sweep"));
  }
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

void LatentTableKind::read_sweep(const Config& config) {
  refuse_unknown_keys(config.json(), {"steps", "learning_rates", "models"}, config.path());
  sweep_.emplace();
  const Json* steps = find_typed(config.json(), "steps", &Json::is_number_integer, "an integer",
                                 config.path(), true);
  sweep_->steps = steps->get<int64_t>();
  const auto common = list_at<double>(config, "learning_rates");
  for (const PlannedCell& cell : cells_) sweep_->rates[cell.model] = common;
  const Config own = config.has("models") ? config.at("models") : Config();
  for (const auto& [model, rates] : own.json().items()) {
    if (!sweep_->rates.contains(model))
      throw ConfigError(
          fmt::format("{}.models.{}: the preset has no such model", config.path(), model));
    sweep_->rates[model] = list_at<double>(own, model);
  }
  for (const auto& [model, rates] : sweep_->rates)
    for (const double rate : rates)
      if (!(rate > 0) || !std::isfinite(rate))
        throw ConfigError(fmt::format("{}: the learning rate is {}; wanted a positive number",
                                      config.path(), rate));
}

std::vector<PlannedTrial> LatentTableKind::trials() const {
  std::vector<PlannedTrial> all;
  if (!sweep_) return all;
  std::set<std::string> seen;
  for (const PlannedCell& cell : cells_) {
    if (!seen.insert(cell.model).second) continue;
    for (const double rate : sweep_->rates.at(cell.model)) {
      Json patch = rate_patch(rate);
      patch["train"] = {{"steps", sweep_->steps}};
      all.push_back({cell, Config(std::move(patch), "$.sweep")});
    }
  }
  return all;
}

void LatentTableKind::set_trials(const std::vector<PlannedRun>& runs) {
  tried_.clear();
  for (const PlannedRun& r : runs) {
    double& loss =
        tried_[r.cell.model][r.config.at("optimizer").at("learning_rate").json().get<double>()];
    loss = std::numeric_limits<double>::quiet_NaN();
    if (trial_diverged(r)) loss = std::numeric_limits<double>::infinity();
    if (!run_finished(r.directory)) continue;
    const auto measured = measurement_of(r);
    if (!measured) continue;
    const PositionLosses* own = &measured->own;
    LatentEffectOptions options;
    options.resamples = 0;
    loss = latent_effect({&own, 1}, options).all.nll;
  }
  std::erase_if(tried_, [](const auto& of_model) {
    return std::any_of(of_model.second.begin(), of_model.second.end(),
                       [](const auto& rate) { return std::isnan(rate.second); });
  });
}

std::string LatentTableKind::sweep_note() const {
  std::string out = fmt::format(
      "Learning rates (the last one a tenth of the first) were chosen by trials of {} steps with "
      "the "
      "first seed, by the loss behind insertions into every fourth held-out text; these texts are "
      "in no figure of this table.",
      sweep_->steps);
  for (const auto& [model, losses] : tried_) {
    const auto best = std::min_element(losses.begin(), losses.end(),
                                       [](auto& a, auto& b) { return a.second < b.second; });
    out += fmt::format(" {}: {:g} of", model, best->first);
    for (const auto& [rate, loss] : losses)
      out += fmt::format("{} {:g} ({})", rate == losses.begin()->first ? "" : ",", rate,
                         std::isinf(loss) ? "diverged" : fmt::format("{:.4f}", loss));
    out += ".";
  }
  return out;
}

std::optional<LatentMeasurement> LatentTableKind::measurement_of(const PlannedRun& run) const {
  const std::string file = run.directory + "/" + kMeasurementFile;
  if (!std::filesystem::exists(file)) return {};
  const Config measured = Config::from_file(file);
  if (measured.json().value("of", Json()) != wanted(run)) return {};
  return LatentMeasurement::from_json(measured.at("measured").json());
}

void LatentTableKind::measure_finished(const PlannedRun& run) const {
  if (!run.in_table && !run.trial) {
    const std::string directory = export_of(run.directory);
    if (std::filesystem::exists(directory + "/config.json")) return;
    LoadedRun loaded = load_run(run.directory);
    const std::string making = directory + ".making";
    export_hugging_face(*loaded.model, loaded.options.model, loaded.tokenizer.get(), making);
    rename_durably(making, directory);
    return;
  }
  const std::string file = run.directory + "/" + kMeasurementFile;
  if (std::filesystem::exists(file)) {
    const Json of = Config::from_file(file).json().value("of", Json());
    if (of == wanted(run)) return;
    log_warning("{} was measured with other settings and is measured again: it has {}, wanted {}",
                file, json_text(of), json_text(wanted(run)));
  }
  measure(run);
}

Dataset LatentTableKind::data_of(const PlannedRun& run, const LoadedRun& loaded) const {
  if (!run.table_data) return prepare_and_open(loaded.options.data);
  DataOptions options;
  read_config(*run.table_data, options);
  resolve_paths(options, table_.directory);
  Dataset data = prepare_and_open(options);
  data.require_vocabulary(loaded.model->vocabulary_size());
  if (data.tokenizer && loaded.tokenizer && data.tokenizer->hash() != loaded.tokenizer->hash())
    throw UserError(fmt::format(
        "{} was trained on tokens of another tokenizer than the table's data ({}, wanted {}): its "
        "figures cannot stand beside the others; correct \"data\" of $.models.{}",
        run.directory, loaded.tokenizer->name(), data.tokenizer->name(), run.cell.model));
  return data;
}

void LatentTableKind::measure(const PlannedRun& run) const {
  log_info("measuring {} at positions 1 to {}", run.directory, measure_.positions);
  const Activity activity("measuring what its latents change");
  const LoadedRun loaded = load_run(run.directory);
  const LoadedModel base = load_pretrained(base_);
  const Dataset data = data_of(run, loaded);
  const int64_t length = loaded.model->block_size();
  // Whole windows: a shorter one at the end would be a text of another length.
  const auto keep = [&](PositionLosses& losses) {
    if (!sweep_) return;
    std::vector<PositionLosses::Text> kept;
    for (size_t i = 0; i < losses.texts.size(); ++i)
      if ((i % kSelectionStep == 0) == run.trial) kept.push_back(std::move(losses.texts[i]));
    losses.texts = std::move(kept);
  };
  const auto windows = [&](int64_t count) {
    const int64_t fit = (data.validation.count() - 1) / length;
    if (!data.documents) count = count == 0 ? fit : std::min(count, fit);
    return data.documents ? EvaluationWindows::of_documents(data.validation, *data.documents,
                                                            measure_.batch_size, length, count)
                          : EvaluationWindows(data.validation, measure_.batch_size, length, count);
  };
  EvaluationWindows texts = windows(measure_.windows);
  // A text alone in its batch has nobody to change latents with.
  if (texts.window_count() % measure_.batch_size == 1) texts = windows(texts.window_count() - 1);
  LatentEffectOptions options;
  options.rule = rule_;
  LatentMeasurement m = measure_latents(*loaded.model, *base.model, texts, options,
                                        is_shuffled(run.cell.model) && !run.trial);
  keep(m.own);
  if (m.shuffled) keep(*m.shuffled);
  // A source may keep still at the run's sizes and read ahead at the table's.
  Verdict verdict = loaded.verdict;
  if (auto* augmented = dynamic_cast<AugmentedModel*>(loaded.model.get())) {
    const Tensor tokens = texts.batch(0).tokens, last = texts.batch(texts.batch_count() - 1).tokens,
                 donors = last.size(1) == tokens.size(1) ? last : tokens;
    const int64_t groups = measure_.points;
    const LatentSizes sizes{groups, measure_.positions};
    const Asking asking{loaded.step};
    verdict.merge(ask_latents(*augmented, tokens, donors, sizes, asking));
    verdict.merge(ask_separate_groups(*augmented, tokens, sizes, groups, asking));
  }
  if (verdict.leaks()) log_warning("{}: {}", run.directory, verdict.line());
  keep_leak(run.directory, verdict);
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
  if (!runs[0].in_table && !runs[0].trial)
    return of_shape(runs[0].config.at("model"), "trained by the first run");
  const LoadedModel base = load_pretrained(base_);
  return plan_latent_table(dynamic_cast<const Transformer&>(*base.model), base_, runs,
                           table_.directory);
}

// 0 for a model without latents.
int64_t training_insertions(const PlannedRun& run, const Json& summary) {
  if (run.cell.level == 0) return 0;
  const Json model = Config::from_file(run.directory + "/config.resolved.json").at("model").json();
  return summary.value("tokens", int64_t(0)) / model.value("block_size", int64_t(1)) *
         model.value("groups", int64_t(0));
}

std::vector<std::string> LatentTableKind::write(const std::vector<PlannedRun>& finished,
                                                int64_t planned) const {
  std::vector<LatentRun> runs;
  for (const PlannedRun& r : finished) {
    auto measured = measurement_of(r);
    if (!measured) continue;  // finished, but not yet its turn
    const Json summary = read_summary(r.directory);
    Verdict verdict = Verdict::of_file(summary);
    verdict.merge(Verdict::of_file(Config::from_file(r.directory + "/" + kMeasurementFile).json()));
    runs.push_back({r.cell.model, r.cell.level, r.seed, summary, std::move(*measured), r.directory,
                    verdict, training_insertions(r, summary), r.table_data.has_value()});
  }
  if (runs.empty()) return {};
  Json definition = table_.config.at("report").json();
  definition["title"] = table_.config.at("title").json();
  definition["preset"] = table_.preset_name;
  definition["command"] = table_.command;
  definition["planned_runs"] = planned;
  definition["shown"] = measure_.shown;
  definition["base"] = base_;
  if (sweep_) definition["notes"].push_back(sweep_note());
  const LatentTable table = build_latent_table(definition, runs, measure_.resamples);
  const std::string& directory = table_.output_directory;
  write_file_atomically(directory + "/table.json", json_text(latent_table_json(table), 2) + "\n");
  const auto plots = latent_plot_files(table);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  write_file_atomically(directory + "/table.md", latent_table_markdown(table, plots));
  write_file_atomically(directory + "/table.csv", latent_table_csv(table));
  write_file_atomically(directory + "/report.html", latent_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

const bool registered = TableKinds::instance().add<LatentTableKind>(
    "latent_effect", {"augmented", "measure", "shuffled"},
    {"cells", "base_model", "base_shape", "pretraining", "augmented", "measure", "sweep"});

}  // namespace

}  // namespace reverie
