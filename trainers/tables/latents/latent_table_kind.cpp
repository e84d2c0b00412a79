// The kind "latent_effect": what latents beside a base change in its perplexity by position, with
// the controls that a coprocessor must beat.
// Models are "augmented" (their base is set) or "pretrained" (their path is: continued training).

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/model_options.h"
#include "layers/pretrained/load.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/latents/latent_definition.h"
#include "trainers/tables/latents/latent_plan.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/run_export.h"
#include "trainers/tables/table_kind.h"
#include "trainers/tables/trial_runs.h"
#include "trainers/text/activity.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

constexpr const char* kFormat = "reverie latent effect 3";

// Texts on which learning rates are chosen; the others are measured for the table.
constexpr int64_t kSelectionStep = 4;

Json rate_patch(double rate) {
  return {{"optimizer", {{"learning_rate", rate}, {"minimum_learning_rate", rate / 10}}}};
}

class LatentTableKind final : public TableKind {
 public:
  LatentTableKind(const LatentDefinition& definition, const TableFile& t)
      : table_(t),
        definition_(definition),
        preset_(definition.presets.at(t.preset_name, "")),
        measure_(preset_.measure),
        base_(preset_.base_model) {
    for (const auto& name : definition.shuffled) definition.models.at(name, "$.models");
    for (const auto& [model, latents] : preset_.cells) {
      if (latents.empty()) cells_.push_back({model, 0});
      for (const int64_t number : latents) cells_.push_back({model, number});
    }
    rule_.points = measure_.offsets == "every" ? 0 : measure_.points;
    rule_.positions = measure_.positions;
    rule_.first = 1 + longest_delay();
  }

  std::vector<PlannedCell> cells() const override { return cells_; }
  std::optional<Json> preliminary() const override {
    if (preset_.pretraining.is_null()) return std::nullopt;
    return preset_.pretraining;
  }
  void set_preliminary(const PlannedRun& run) override { base_ = export_of(run.directory); }
  void merge_level_patch(const PlannedCell& cell, Config& config) const override {
    if (cell.level == 0) return;
    merge_patch(config, definition_.augmented);
    merge_patch(config, preset_.augmented);
  }
  void set_cell_values(const PlannedCell& cell, Config& config) const override;
  std::vector<PlannedTrial> trials() const override;
  void set_trials(const std::vector<PlannedRun>& runs) override;
  void measure_finished(const PlannedRun& run) const override;
  std::string plan(const std::vector<PlannedRun>& runs) const override;
  PlannedBase planned_base(const std::vector<PlannedRun>& runs) const override {
    if (!preset_.base_shape.is_null()) return {preset_.base_shape, stored_dtype()};
    if (runs[0].in_table || runs[0].trial) return {};
    return {runs[0].config.at("model").json()};
  }
  std::vector<std::string> write(const std::vector<PlannedRun>& finished,
                                 int64_t planned) const override;

 private:
  DType stored_dtype() const {
    return preset_.base_dtype == "bf16"  ? DType::bf16
           : preset_.base_dtype == "f16" ? DType::f16
                                         : DType::f32;
  }
  bool is_shuffled(const std::string& model) const {
    const auto& all = definition_.shuffled;
    return std::find(all.begin(), all.end(), model) != all.end();
  }
  // The longest "delay" that any model of this preset is given: an insertion that comes too early
  // for one is left out for all.
  int64_t longest_delay() const {
    int64_t longest = 0;
    const auto look = [&](const Json& patch) {
      if (patch.is_object() && patch.contains("model") && patch["model"].is_object())
        longest = std::max(longest, patch["model"].value("delay", int64_t(0)));
    };
    for (const Json* patch :
         {&definition_.augmented, &preset_.augmented, &definition_.base, &preset_.patch})
      look(*patch);
    for (const PlannedCell& cell : cells_) {
      look(definition_.models.at(cell.model, "$.models"));
      if (const Json* own = preset_.model_patches.find(cell.model)) look(*own);
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
                {"texts", !has_trials() ? "all"
                          : run.trial   ? kTextsOfTrials
                                        : "all but every fourth"},
                {"shuffled", is_shuffled(run.cell.model) && !run.trial}};
    if (run.table_data) out["data"] = run.table_data->as_written;
    // Left out on the CPU, where earlier versions measured every base.
    if (const Json device = run.config.json().value("device", Json()); device == "cuda")
      out["device"] = device;
    return out;
  }
  // What a run is measured on: the table's data, whatever it was trained on.
  Dataset data_of(const PlannedRun& run, const LoadedRun& loaded) const;
  bool has_trials() const { return preset_.sweep.steps > 0; }
  // Whether the run's measurement is there and of what is wanted now.
  std::optional<LatentMeasurement> measurement_of(const PlannedRun& run) const;
  std::string sweep_note() const;
  void measure(const PlannedRun& run) const;
  // Sets how many latents the cell's source makes; several sources share them evenly.
  void share_latents(const PlannedCell& cell, Config& config) const;

  TableFile table_;
  LatentDefinition definition_;
  LatentPreset preset_;
  LatentMeasureOptions measure_;
  InsertionRule rule_;
  // Of each model's trials that have finished: losses by rate. Only of models with all of them.
  std::map<std::string, std::map<double, double>> tried_;
  std::vector<PlannedCell> cells_;
  std::string base_;
};

void LatentTableKind::share_latents(const PlannedCell& cell, Config& config) const {
  const Config latents = config.at("model").at("latents");
  if (!latents.has("sources")) {
    config.set("model.latents.count", cell.level);
    return;
  }
  const int64_t sources = int64_t(latents.json().at("sources").size());
  if (sources == 0 || cell.level % sources != 0)
    throw ConfigError(
        fmt::format("{}.cells.{}: {} latents cannot be shared evenly by its {} sources",
                    table_.preset_path(), cell.model, cell.level, sources));
  for (int64_t i = 0; i < sources; ++i)
    config.set(fmt::format("model.latents.sources.{}.count", i), cell.level / sources);
}

void LatentTableKind::set_cell_values(const PlannedCell& cell, Config& config) const {
  const Config model = config.at("model");
  if (model.has("latents") != (cell.level > 0))
    throw ConfigError(
        fmt::format("{}.cells.{}: {}", table_.preset_path(), cell.model,
                    cell.level > 0 ? fmt::format("{} latents are asked for, but this model has "
                                                 "none; wanted []",
                                                 cell.level)
                                   : "the list is empty, but this model has latents; wanted their "
                                     "numbers, such as [8, 16]"));
  if (const auto tried = tried_.find(cell.model); tried != tried_.end()) {
    const auto best =
        std::min_element(tried->second.begin(), tried->second.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    merge_patch(config, rate_patch(best->first));
  }
  const std::string type = type_of_model(config);
  if (type == "augmented") {
    config.set("model.base", base_);
    share_latents(cell, config);
  } else if (type == "pretrained") {
    config.set("model.path", base_);
  } else {
    throw ConfigError(
        fmt::format("$.models.{}: a table of latents compares models of type \"augmented\" and "
                    "\"pretrained\" (continued training) with their base, not \"{}\"",
                    cell.model, type));
  }
}

std::vector<PlannedTrial> LatentTableKind::trials() const {
  std::vector<PlannedTrial> all;
  if (!has_trials()) return all;
  std::set<std::string> seen;
  for (const PlannedCell& cell : cells_) {
    if (!seen.insert(cell.model).second) continue;
    const LatentSweep& sweep = preset_.sweep;
    const auto* own = sweep.models.find(cell.model);
    for (const double rate : own != nullptr ? *own : sweep.learning_rates) {
      Json patch = rate_patch(rate);
      patch["train"] = {{"steps", sweep.steps}};
      all.push_back({cell, std::move(patch)});
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
      preset_.sweep.steps);
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
  const std::string file = run.directory + "/" + kLatentEffectFile;
  const Json kept = kept_measurement(file, wanted(run), run.directory);
  if (kept.is_null()) return {};
  return LatentMeasurement::from_json(Config(kept, "$", file).at("measured").json());
}

void LatentTableKind::measure_finished(const PlannedRun& run) const {
  if (!run.in_table && !run.trial) {
    if (export_is_due(run.directory)) export_run(load_run(run.directory), run.directory);
    return;
  }
  const std::string file = run.directory + "/" + kLatentEffectFile;
  if (!kept_measurement(file, wanted(run), run.directory).is_null()) return;
  if (std::filesystem::exists(file)) {
    const Json of = read_stored_json(file).json().value("of", Json());
    if (of == wanted(run))
      log_warning("{} is of another checkpoint than the newest, which is measured now", file);
    else
      log_warning("{} was measured with other settings and is measured again: it has {}, wanted {}",
                  file, json_text(of), json_text(wanted(run)));
  }
  measure(run);
}

Dataset LatentTableKind::data_of(const PlannedRun& run, const LoadedRun& loaded) const {
  if (!run.table_data) return prepare_and_open(loaded.options.data);
  DataOptions options = run.table_data->options;
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
  const LoadedModel base = load_pretrained(base_, {.device = loaded.options.tensor_device()});
  const Dataset data = data_of(run, loaded);
  const int64_t length = loaded.model->block_size();
  // Whole windows: a shorter one at the end would be a text of another length.
  const auto windows = [&](int64_t count) {
    if (data.validation_mix)
      return EvaluationWindows::of_mix(data.validation, *data.validation_mix, measure_.batch_size,
                                       length, count);
    const int64_t fit = (data.validation.count() - 1) / length;
    if (!data.documents) count = count == 0 ? fit : std::min(count, fit);
    return data.documents ? EvaluationWindows::of_documents(data.validation, *data.documents,
                                                            measure_.batch_size, length, count,
                                                            data.validation_rule())
                          : EvaluationWindows::over(data.validation, data.validation_rule(),
                                                    measure_.batch_size, length, count);
  };
  EvaluationWindows texts = windows(measure_.windows);
  if (has_trials())
    texts = texts.where([&](int64_t i) { return (i % kSelectionStep == 0) == run.trial; });
  // A text alone in its batch has nobody to change latents with.
  if (const int64_t count = texts.window_count(); count > 1 && count % measure_.batch_size == 1)
    texts = texts.where([&](int64_t i) { return i + 1 < count; });
  LatentEffectOptions options;
  options.rule = rule_;
  ForwardAudit audit = ForwardAudit::once(loaded.step);
  LatentMeasurement m = measure_latents(*loaded.model, *base.model, texts, options,
                                        is_shuffled(run.cell.model) && !run.trial, &audit);
  Verdict verdict = loaded.verdict;
  verdict.merge(audit.verdict());
  // A source may keep still at the run's sizes and read ahead at the table's. The audit asks a few
  // groups; this asks every group of a batch. No figure of a trial is in the table.
  auto* augmented = dynamic_cast<AugmentedModel*>(loaded.model.get());
  if (augmented && !run.trial) {
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
  Json json = {{"of", wanted(run)}, {"verdict", verdict.json()}, {"measured", m.json()}};
  name_checkpoint(json, loaded.checkpoint);
  write_file_atomically(run.directory + "/" + kLatentEffectFile, json_text(json) + "\n");
}

std::string LatentTableKind::plan(const std::vector<PlannedRun>& runs) const {
  const DryRun dry;  // only sizes count
  const auto of_shape = [&](const Config& shape, const std::string& name, DType stored) {
    // The data's vocabulary is not known yet; characters are about so many.
    const Component component =
        with_vocabulary_of_data(resolve_component(ModelRegistry::instance(), shape), 65);
    Generator unused(1);
    const auto model =
        ModelRegistry::instance().make(component, Build{unused, DType::f32, Device{}, false});
    model->freeze();
    return plan_latent_table(dynamic_cast<const Transformer&>(*model), name, stored, runs,
                             table_.directory);
  };
  if (!preset_.base_shape.is_null())
    return of_shape(Config(preset_.base_shape, table_.preset_path() + ".base_shape"),
                    base_ + " (by its shape)", stored_dtype());
  if (!runs[0].in_table && !runs[0].trial)
    return of_shape(runs[0].config.at("model"), "trained by the first run", DType::f32);
  const LoadedModel base = load_pretrained(base_);
  return plan_latent_table(dynamic_cast<const Transformer&>(*base.model), base_, DType::f32, runs,
                           table_.directory);
}

// 0 for a model without latents.
int64_t training_insertions(const PlannedRun& run, const Json& summary) {
  if (run.cell.level == 0) return 0;
  const Json model = read_stored_json(run.directory + "/config.resolved.json").at("model").json();
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
    verdict.merge(Verdict::of_file(read_stored_json(r.directory + "/" + kLatentEffectFile).json()));
    runs.push_back({r.cell.model, r.cell.level, r.seed, summary, std::move(*measured), r.directory,
                    verdict, training_insertions(r, summary), r.table_data.has_value()});
  }
  if (runs.empty()) return {};
  LatentReport report = definition_.report;
  if (has_trials()) report.notes.push_back(sweep_note());
  const LatentTable table = build_latent_table(
      report, {table_.heading(planned), base_, measure_.shown}, runs, measure_.resamples);
  const std::string& directory = table_.output_directory;
  write_file_atomically(directory + "/table.json", json_text(latent_table_json(table), 2) + "\n");
  const auto plots = latent_plot_files(table);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  write_file_atomically(directory + "/table.md", latent_table_markdown(table, plots));
  write_file_atomically(directory + "/table.csv", latent_table_csv(table));
  write_file_atomically(directory + "/report.html", latent_report_html(table));
  return {"table.md", "table.json", "table.csv", "report.html"};
}

const bool latent_table_kind_registered =
    TableKindRegistry::instance().add<LatentTableKind, LatentDefinition>(
        "latent_effect",
        "what latents beside a model change in its perplexity, with their controls");

}  // namespace

}  // namespace reverie
