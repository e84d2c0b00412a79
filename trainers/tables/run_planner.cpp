#include "trainers/tables/run_planner.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "datasets/prepare.h"
#include "trainers/runs/earlier_spellings.h"
#include "trainers/runs/experiment.h"

namespace reverie {
namespace {

// Tables that were finished before models around others had "rematerialize" lack the key. Where it
// is false, the names of their runs must not change.
void erase_young_rematerialize(Json& model) {
  const std::string type = model.value("type", "");
  if (type == "augmented" || type == "pretrained" || type == "coconut")
    if (!model.value("rematerialize", true)) model.erase("rematerialize");
  if (model.contains("decoder") && !model["decoder"].value("rematerialize", true))
    model["decoder"].erase("rematerialize");
}

// The same of what examples have by stage.
void erase_young_stages(const ExampleOptions& options, Json& examples) {
  if (options.thought_steps == 0) examples.erase("thought_steps");
  if (options.mixed_stages == 0) examples.erase("mixed_stages");
}

// The same of tokens that a published model's vocabulary gets.
void erase_young_new_tokens(Json& model) {
  const std::string type = model.value("type", "");
  if (type != "pretrained" && type != "coconut") return;
  for (const char* key : {"vocab_size", "copied_token"})
    if (model.value(key, Json()) == "auto") model.erase(key);
  if (model.value("new_tokens", int64_t(0)) == 0) model.erase("new_tokens");
}

// Keys that are younger than many a finished table, whose runs their defaults must not disown.
void erase_young_defaults(const ExperimentOptions& experiment, Json& all) {
  if (experiment.data.field.empty()) all["data"].erase("field");
  if (experiment.data.train_bpe == 0) all["data"].erase("train_bpe");
  if (!experiment.data.begin_windows) all["data"].erase("begin_windows");
  if (experiment.data.marks == "unnamed") all["data"].erase("marks");
  if (!experiment.data.generated.given()) all["data"].erase("generated");
  if (!experiment.data.problems.given()) all["data"].erase("problems");
  if (experiment.data.mix.empty()) all["data"].erase("mix");
  if (all["model"].value("insert", "") == "drawn") all["model"].erase("insert");
  erase_young_rematerialize(all["model"]);
  erase_young_stages(experiment.data.examples, all["data"]["examples"]);
  erase_young_new_tokens(all["model"]);
  if (!experiment.data.examples.told())
    for (const char* key : {"read", "tokens"}) all["data"]["examples"].erase(key);
  if (experiment.shrunk_by == 1) all.erase("shrunk_by");
  if (experiment.train.windows == 1) all["train"].erase("windows");
  if (!experiment.checkpoint.keep_best) all["checkpoint"].erase("keep_best");
  if (!experiment.checkpoint.self_contained) all["checkpoint"].erase("self_contained");
  all["optimizer"] = optimizer_in_first_spelling(all["optimizer"]);
}

// Makes paths of the table's own runs, such as a base, relative to the table.
void leave_out_directory(Json& value, const std::string& directory) {
  if (value.is_structured())
    for (Json& inner : value) leave_out_directory(inner, directory);
  else if (value.is_string() && value.get_ref<const std::string&>().starts_with(directory + "/"))
    value = value.get_ref<const std::string&>().substr(directory.size() + 1);
}

}  // namespace

Shrinking shrinking_of_runs(const std::string& kind, const ReproOptions& o) {
  return shrinking_of(kind, o.shrink, o.directory, !o.without_data);
}

RunPlanner::RunPlanner(const TableFile& table, const ReproOptions& options, Config common)
    : table_(table), options_(options) {
  for (const auto& s : options.overrides) common.set(s);
  const Config data = common.has("data") ? common.at("data") : Config();
  read_config(data, table_data_.options);
  table_data_.as_written = data.json();
  if (options.shrink > 1) shrink_data(table_data_.options, table.directory, shrinking());
  table_data_text_ = json_text(write_config(table_data_.options));
}

PlannedRun RunPlanner::run(const PlannedCell& cell, int64_t seed, Config config) {
  PlannedRun r;
  r.cell = cell;
  r.seed = seed;
  config.set("seed", seed);
  for (const auto& s : options_.overrides) config.set(s);
  if (options_.shrink > 1) config = shrunk_experiment(config, table_.directory, shrinking()).config;
  // As written: where the files lie is no part of what a run is.
  ExperimentOptions experiment = read_experiment_as_written(config, table_.directory);
  r.config = config;
  Json all = write_config(experiment);
  if (json_text(all["data"]) != table_data_text_) r.table_data = table_data_;
  erase_young_defaults(experiment, all);
  const std::string data = json_text(all["data"]);
  if (!data_hashes_.contains(data) && !options_.without_data) {
    resolve_paths(experiment.data, table_.directory);
    data_hashes_[data] = prepared_hash(describe_dataset(experiment.data));
  }
  const auto data_hash = data_hashes_[data];
  r.data_prepared = data_hash.has_value();
  r.data_hash = data_hash;
  // Earlier versions hashed the table's place, too; their finished runs are still used.
  const std::string earlier = directory_of(cell, seed, all, data_hash);
  leave_out_directory(all, options_.directory);
  r.directory = directory_of(cell, seed, all, data_hash);
  std::error_code ignored;
  if (!std::filesystem::exists(r.directory, ignored) && std::filesystem::exists(earlier, ignored))
    r.directory = earlier;
  return r;
}

std::string RunPlanner::directory_of(const PlannedCell& cell, int64_t seed, const Json& config,
                                     const std::optional<std::string>& data_hash) const {
  const std::string resolved = json_text(config) + data_hash.value_or("");
  const std::string level = cell.level_name.empty() ? std::to_string(cell.level) : cell.level_name;
  return fmt::format("{}/runs/{}-{}-seed{}-{}", options_.directory, cell.model, level, seed,
                     hash_bytes(resolved.data(), resolved.size()).substr(0, 8));
}

}  // namespace reverie
