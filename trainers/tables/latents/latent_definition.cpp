#include "trainers/tables/latents/latent_definition.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {

void LatentMeasureOptions::fields(Fields& f) {
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

void LatentSweep::fields(Fields& f) {
  constexpr Range<double> kRates{1e-12, 10};
  f.integer("steps", steps, kNonNegative, "steps of each trial; 0: no trials");
  f.numbers("learning_rates", learning_rates, kRates, "the rates that are tried");
  describe_named(f, "models", models, "by model: rates instead of these",
                 [&](Fields& inner, const std::string& name, std::vector<double>& rates) {
                   inner.required().numbers(name, rates, kRates, "rates of this model");
                 });
  f.rule(steps > 0 || (learning_rates.empty() && models.empty()),
         "learning rates are given, but no \"steps\" of their trials");
  f.rule(steps == 0 || !learning_rates.empty(),
         "trials are wanted, but \"learning_rates\" is missing or empty");
}

void LatentPreset::fields(Fields& f) {
  TablePreset::fields(f);
  describe_named(f.required(), "cells", cells,
                 "by model: the numbers of latents that it is trained with",
                 [](Fields& inner, const std::string& name, std::vector<int64_t>& latents) {
                   inner.integers(name, latents, kPositive, "none: a model without latents");
                 });
  f.text("base_model", base_model, {}, "path of a pretrained model, the base; or \"pretraining\"");
  f.patch("pretraining", pretraining, "the run that trains the base before all others");
  const bool given = !base_model.empty(), trained = !pretraining.is_null();
  f.rule(given != trained,
         fmt::format("wanted either \"base_model\" (the path of a pretrained model) or "
                     "\"pretraining\" (the patch of a run that makes it), got {}",
                     given ? "both" : "neither"));
  f.patch("base_shape", base_shape,
          "a \"model\" of the base's shape, for planning before its weights are there");
  f.text("base_dtype", base_dtype, {"f32", "bf16", "f16"},
         "for \"base_shape\": the type of the matrices in the base's files");
  f.rule(base_dtype == "f32" || !base_shape.is_null(),
         "\"base_dtype\" is for \"base_shape\", which is missing");
  f.patch("augmented", augmented, "merged into the config of every model with latents");
  f.object("measure", measure, "how runs are measured, where the table does not say so");
  f.object("sweep", sweep, "trials that choose each model's learning rate");
  for (const auto& [model, rates] : sweep.models)
    f.rule(cells.find(model) != nullptr,
           fmt::format("sweep.models.{}: the preset's cells have no such model", model));
  model_fields(f);
}

void LatentDefinition::fields(Fields& f) {
  TableDefinition::fields(f);
  f.object("report", report, "the paper's figures, and texts beside the table");
  model_fields(f);
  f.patch("augmented", augmented, "merged into the config of every model with latents");
  f.texts("shuffled", shuffled, "models that are measured with latents of other documents, too");
  f.object("measure", measure, "how runs are measured");
  presets.prototype.measure = measure;
  preset_fields(f);
}

void LatentDefinition::refuse_misplaced(const Config& file) const {
  const auto refuse = [](const Json& holder, const std::string& path) {
    if (holder.is_object() && holder.contains("measure") && holder["measure"].is_object() &&
        holder["measure"].contains("groups"))
      throw ConfigError(
          path +
          ".measure.groups, evenly spaced insertions, is gone: give \"points\", as many insertions "
          "drawn among all offsets of each text, or \"offsets\": \"every\"");
  };
  refuse(file.json(), "$");
  if (!file.has("presets")) return;
  const Json& presets = file.json()["presets"];
  if (!presets.is_object()) return;
  for (const auto& [name, preset] : presets.items()) refuse(preset, "$.presets." + name);
}

}  // namespace reverie
