#include "trainers/tables/benchmarks/benchmark_table_definition.h"

#include <fmt/format.h>

#include <algorithm>

namespace reverie {
namespace {

void patches(Fields& f, std::string_view key, Named<Json>& value, std::string_view doc) {
  describe_named(f, key, value, doc, [](Fields& inner, const std::string& name, Json& patch) {
    inner.patch(name, patch, "merged into the config of its runs");
  });
}

// Tasks name files.
void name_rules(Fields& f, const std::string& where, const std::vector<std::string>& tasks) {
  constexpr const char* kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  for (const std::string& task : tasks)
    f.rule(task.find_first_not_of(kAllowed) == std::string::npos,
           fmt::format("{}: \"{}\" names files, so it may have letters, digits and _ only", where,
                       task));
}

}  // namespace

void AskedTask::fields(Fields& f) {
  f.required().text("base", base, {}, "a benchmark's name or file, as the model is asked plainly");
  f.text("zero_shot", zero_shot, {},
         "the same items asked for steps first (zero-shot chain of thought); empty: not asked");
  f.text("few_shot", few_shot, {},
         "the same items behind solved examples with steps (few-shot chain of thought)");
}

void AskedModel::fields(Fields& f) {
  f.text("model", model, {}, "a published model's path, with its tokenizer");
  f.text("runs", runs, {},
         "the directory of a table whose runs have latents beside this model, such as that of "
         "configs/tables/cache_augmentation.json");
  f.texts("latents", latents, "models of that table; every finished run of theirs is a row");
  describe_named(f, "tasks", tasks, "benchmarks, by the name that the table shows",
                 [](Fields& inner, const std::string& name, AskedTask& task) {
                   inner.object(name, task, "one benchmark");
                 });
  f.integers("latents_every", latents_every, kNonNegative,
             "by these rows: latents are made anew after so many tokens of a written answer, in "
             "place of the old ones; 0: once, behind the question. Tasks without written answers "
             "have the row of 0 alone, where it is listed");
  for (size_t i = 0; i < latents_every.size(); ++i)
    f.rule(std::find(latents_every.begin(), latents_every.begin() + std::ptrdiff_t(i),
                     latents_every[i]) == latents_every.begin() + std::ptrdiff_t(i),
           fmt::format("latents_every holds {} twice", latents_every[i]));
  f.rule(!latents_every.empty(), "latents_every is empty: wanted [0], or numbers of tokens");
  name_rules(f, "tasks", tasks.names());
  f.integer("limit", limit, kNonNegative,
            "only the first so many items of each benchmark, which the table says; 0: all");
  f.rule(model.empty() || !tasks.empty(), "\"asked\" names a model, but no \"tasks\"");
  f.rule(latents.empty() || !runs.empty(),
         "\"asked\" names models with latents, but no \"runs\" where they lie");
}

void BenchmarkMeasureOptions::fields(Fields& f) {
  f.integer("items", items, kNonNegative, "held-out problems, evenly spaced; 0: all");
  f.integer("batch_tokens", batch_tokens, kPositive, "most tokens in one forward");
  f.integer("resamples", resamples, {100, 1 << 24},
            "resamplings of the items, for the 95 % intervals");
}

void BenchmarkPreset::fields(Fields& f) {
  TablePreset::fields(f);
  f.texts("tasks", tasks, "the tasks that models are trained on; none: all of the table's");
  patches(f, "task_patches", task_patches, "by task: patches, merged before those of the models");
  describe_named(f, "cells", cells, "the models that are trained, by name: numbers of latents",
                 [](Fields& inner, const std::string& name, std::vector<int64_t>& latents) {
                   inner.integers(name, latents, kPositive, "none: a model without latents");
                 });
  describe_named(f, "stages", stages,
                 "by task: in how many stages the table's \"staged\" models are trained",
                 [](Fields& inner, const std::string& name, int64_t& count) {
                   inner.integer(name, count, {1, 64}, "the last stage has no written step left");
                 });
  f.object("asked", asked, "a published model that was not trained on the tasks");
  f.object("measure", measure, "how answers are counted");
  f.rule(
      cells.empty() == asked.given(),
      fmt::format("wanted either \"cells\" (models that are trained on the tasks) or \"asked\" (a "
                  "published model), got {}",
                  asked.given() ? "both" : "neither"));
  model_fields(f);
}

void BenchmarkTableDefinition::fields(Fields& f) {
  TableDefinition::fields(f);
  f.object("report", report, "texts beside the table");
  model_fields(f);
  patches(f, "tasks", tasks, "by name: patches with the \"data\" of a task");
  name_rules(f, "tasks", tasks.names());
  f.required().text("baseline", baseline, {}, "the model that all others are compared with");
  describe_named(f, "from", from, "by model: the model that it begins with, trained before it",
                 [](Fields& inner, const std::string& name, std::string& other) {
                   inner.text(name, other, {}, "a model of the same seed on the same task");
                 });
  describe_named(f, "compared", compared,
                 "by model with latents or thoughts: models that it must beat besides the baseline",
                 [](Fields& inner, const std::string& name, std::vector<std::string>& others) {
                   inner.texts(name, others, "MODEL, or MODEL_shuffled");
                 });
  f.texts("staged", staged,
          "models that lose one written step a stage; a stage begins with the weights of the one "
          "before, the first with those of \"from\"");
  f.texts("shuffled", shuffled, "models that are measured with the latents of other items, too");
  for (const auto& [model, other] : from)
    f.rule(models.find(model) != nullptr && models.find(other) != nullptr,
           fmt::format("from: \"{}\" begins with \"{}\", and both must be among the models", model,
                       other));
  for (const auto* list : {&staged, &shuffled})
    for (const std::string& model : *list)
      f.rule(models.find(model) != nullptr, fmt::format("\"{}\" is none of the models", model));
  for (const std::string& model : staged)
    f.rule(from.find(model) != nullptr,
           fmt::format("staged: \"from\" does not say what {} begins with", model));
  preset_fields(f);
}

}  // namespace reverie
