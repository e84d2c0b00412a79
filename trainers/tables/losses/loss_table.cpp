#include "trainers/tables/losses/loss_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/ranges.h>

#include "core/error.h"
#include "trainers/tables/definition.h"

namespace reverie {
namespace {

using Cell = std::pair<std::string, int64_t>;  // model, block size

struct Definition {
  LossTable table;
  std::map<Cell, Json> paper;
};

// Figures of the paper by model and block size: {"gpt": {"64": {"train_loss": 1.70}}}.
void read_paper(const Json& paper, Definition& out) {
  for (const auto& [model, figures] : paper.items()) {
    const std::string path = "$.paper." + model;
    if (!figures.is_object())
      throw ConfigError(fmt::format("{} is {}, wanted {{BLOCK_SIZE: {{\"train_loss\": x}}}}", path,
                                    figures.type_name()));
    for (const auto& [block_size, figure] : figures.items()) {
      const int64_t number = number_of_key(block_size, "block size", path);
      const std::string here = path + "." + block_size;
      refuse_unknown_keys(figure, {"train_loss"}, here);
      find_typed(figure, "train_loss", &Json::is_number, "a number", here, true);
      out.paper[{model, number}] = figure;
    }
  }
}

void read_columns(const Json& json, LossTable& table) {
  table.columns = texts_at(json, "columns", "$");
  std::vector<std::string> known;
  for (const LossColumn& column : loss_columns()) known.push_back(column.name);
  for (const std::string& column : table.columns)
    if (std::find(known.begin(), known.end(), column) == known.end())
      throw ConfigError(fmt::format("$.columns names \"{}\", wanted some of: {}", column,
                                    fmt::join(known, ", ")));
  if (table.columns.empty()) table.columns = known;
}

Definition read_definition(const Json& json) {
  Definition out;
  LossTable& table = out.table;
  refuse_unknown_keys(json,
                      {"title", "citation", "paper", "models", "vocabulary_size", "columns",
                       "notes", "preset", "command", "planned_runs"},
                      "$");
  table.title = text_at(json, "title", "$", true);
  table.citation = text_at(json, "citation", "$", false);
  if (const Json* paper = find_typed(json, "paper", &Json::is_object, "an object", "$", false))
    read_paper(*paper, out);
  if (const Json* models = find_typed(json, "models", &Json::is_object, "an object", "$", false))
    table.models = read_table_models(*models, "$.models");
  if (const Json* size =
          find_typed(json, "vocabulary_size", &Json::is_number_integer, "an integer", "$", false))
    table.vocabulary_size = size->get<int64_t>();
  read_columns(json, table);
  table.notes = texts_at(json, "notes", "$");
  if (const Json* planned =
          find_typed(json, "planned_runs", &Json::is_number_integer, "an integer", "$", false))
    table.planned_runs = planned->get<int64_t>();
  return out;
}

const Json& summary_at(const LossRun& run, const char* key) {
  const auto found = run.summary.find(key);
  if (found == run.summary.end())
    throw DataError(fmt::format(
        "summary of run {} has no \"{}\"; delete that run to train it again", run.run_dir, key));
  return *found;
}
double number_at(const LossRun& run, const char* key) {
  const Json& value = summary_at(run, key);
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number())
    throw DataError(fmt::format("summary of run {}: \"{}\" is {}, wanted a number", run.run_dir,
                                key, value.type_name()));
  return value.get<double>();
}

LossRow make_row(const std::vector<const LossRun*>& runs, const TableModel& model,
                 const Json& paper) {
  LossRow row;
  row.model = model.name;
  row.title = model.title;
  row.block_size = runs[0]->block_size;
  row.paper = paper;
  std::vector<double> train, val, prefix_only, carried, reset;
  for (const LossRun* run : runs) {
    if (std::find(row.seeds.begin(), row.seeds.end(), run->seed) != row.seeds.end())
      throw UserError(fmt::format("two runs of {} at block size {} have seed {}; the second is {}",
                                  run->model, run->block_size, run->seed, run->run_dir));
    row.seeds.push_back(run->seed);
    train.push_back(number_at(*run, "train_loss"));
    val.push_back(number_at(*run, "val_loss"));
    prefix_only.push_back(number_at(*run, "val_loss_prefix_only"));
    if (run->summary.contains("val_loss_carried")) {
      carried.push_back(number_at(*run, "val_loss_carried"));
      reset.push_back(number_at(*run, "val_loss_on_carried_windows"));
    }
    const Json& causal = summary_at(*run, "causal");
    if (!causal.is_boolean())
      throw DataError(fmt::format("summary of run {}: \"causal\" is {}, wanted true or false",
                                  run->run_dir, causal.type_name()));
    row.causal = row.causal && causal.get<bool>();
    const double change = number_at(*run, "max_future_logit_change");
    // NaN (logits that are not finite) must not hide behind a number.
    if (std::isnan(change) || change > row.max_future_logit_change)
      row.max_future_logit_change = change;
    const Json& parameters = summary_at(*run, "parameters");
    if (!parameters.is_number_integer())
      throw DataError(fmt::format("summary of run {}: \"parameters\" is {}, wanted an integer",
                                  run->run_dir, parameters.type_name()));
    if (row.seeds.size() > 1 && parameters.get<int64_t>() != row.parameters)
      throw UserError(fmt::format(
          "runs of {} at block size {} have {} and {} parameters: not the same model "
          "(the second is {})",
          run->model, run->block_size, row.parameters, parameters.get<int64_t>(), run->run_dir));
    row.parameters = parameters.get<int64_t>();
  }
  row.train_loss = statistic(train);
  row.val_loss = statistic(val);
  row.val_loss_prefix_only = statistic(prefix_only);
  row.val_loss_carried = statistic(carried);
  row.val_loss_on_carried_windows = statistic(reset);
  return row;
}

// Where no run carries memory, nothing is said of it.
void leave_out_carried(LossTable& table) {
  if (std::any_of(table.rows.begin(), table.rows.end(),
                  [](const LossRow& row) { return row.val_loss_carried.n > 0; }))
    return;
  std::erase_if(table.columns, [](const std::string& column) {
    return column == "val_loss_carried" || column == "val_loss_on_carried_windows";
  });
}

}  // namespace

const TableModel& LossTable::model(const std::string& name) const {
  for (const TableModel& model : models)
    if (model.name == name) return model;
  throw InternalError(fmt::format("the table has no model \"{}\"", name));
}

std::vector<int64_t> LossTable::block_sizes() const {
  std::set<int64_t> sizes;
  for (const LossRow& row : rows) sizes.insert(row.block_size);
  return {sizes.begin(), sizes.end()};
}

const LossRow* LossTable::find(const std::string& model, int64_t block_size) const {
  for (const LossRow& row : rows)
    if (row.model == model && row.block_size == block_size) return &row;
  return nullptr;
}

std::optional<double> LossTable::uniform_loss() const {
  if (!vocabulary_size) return std::nullopt;
  return std::log(double(*vocabulary_size));
}

LossTable build_loss_table(const Json& definition, const std::vector<LossRun>& runs,
                           Provenance provenance) {
  auto [table, paper] = read_definition(definition);
  if (provenance.preset.empty()) provenance.preset = text_at(definition, "preset", "$", false);
  if (provenance.command.empty()) provenance.command = text_at(definition, "command", "$", false);
  table.finished_runs = int64_t(runs.size());
  table.provenance = std::move(provenance);
  std::map<Cell, std::vector<const LossRun*>> cells;
  std::set<int64_t> block_sizes;
  for (const LossRun& run : runs) {
    if (std::none_of(table.models.begin(), table.models.end(),
                     [&](const auto& m) { return m.name == run.model; }))
      table.models.push_back({run.model, run.model, ""});
    cells[{run.model, run.block_size}].push_back(&run);
    block_sizes.insert(run.block_size);
    table.provenance.add_run(run.summary, run.run_dir);
    if (const Json size = run.summary.value("vocabulary_size", Json()); size.is_number_integer())
      table.vocabulary_size = size.get<int64_t>();
  }
  for (const int64_t block_size : block_sizes)
    for (const TableModel& model : table.models) {
      const auto found = cells.find({model.name, block_size});
      if (found == cells.end()) continue;
      const auto figure = paper.find(found->first);
      table.rows.push_back(
          make_row(found->second, model, figure == paper.end() ? Json() : figure->second));
    }
  leave_out_carried(table);
  return std::move(table);
}

}  // namespace reverie
