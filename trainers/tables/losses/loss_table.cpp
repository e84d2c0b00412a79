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

// Figures of the paper.
std::map<Cell, Json> paper_of(const LossReport& report) {
  std::map<Cell, Json> out;
  for (const auto& [model, figures] : report.paper)
    for (const auto& [block_size, figure] : figures)
      out[{model, number_of_key(block_size)}] = {{"train_loss", figure.train_loss}};
  return out;
}

LossTable table_without_runs(const LossReport& report, const TableHeading& heading) {
  LossTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.models = report.table_models();
  if (report.vocabulary_size > 0) table.vocabulary_size = report.vocabulary_size;
  table.columns = report.columns;
  if (table.columns.empty())
    for (const LossColumn& column : loss_columns()) table.columns.emplace_back(column.name);
  table.notes = report.notes;
  table.planned_runs = heading.planned_runs;
  return table;
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
    if (run->summary.contains("verdict"))
      row.shrunk = Verdict::of_file(run->summary).shrunk_label();
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

void PaperLoss::fields(Fields& f) {
  f.number("train_loss", train_loss, {}, "nats per token");
}

void LossReport::fields(Fields& f) {
  TableReport::fields(f);
  describe_named(f, "paper", paper, "the paper's figures, by model and block size",
                 [](Fields& by_model, const std::string& model, Named<PaperLoss>& figures) {
                   describe_named(by_model, model, figures, "by block size",
                                  [](Fields& inner, const std::string& size, PaperLoss& figure) {
                                    inner.object(size, figure, "one cell");
                                  });
                 });
  for (const auto& [model, figures] : paper)
    number_keys(f, figures.names(), "paper." + model, "block size");
  f.integer("vocabulary_size", vocabulary_size, kNonNegative,
            "tokens that can be guessed; 0: as the runs' summaries say");
  f.texts("columns", columns,
          "columns of table.md and the report; none: all, those of carried memory where a run "
          "carries some");
  std::vector<std::string> known;
  for (const LossColumn& column : loss_columns()) known.emplace_back(column.name);
  for (const std::string& column : columns)
    f.rule(std::find(known.begin(), known.end(), column) != known.end(),
           fmt::format("columns names \"{}\", wanted some of: {}", column, fmt::join(known, ", ")));
}

LossTable build_loss_table(const LossReport& report, const TableHeading& heading,
                           const std::vector<LossRun>& runs, Provenance provenance) {
  LossTable table = table_without_runs(report, heading);
  const auto paper = paper_of(report);
  if (provenance.preset.empty()) provenance.preset = heading.preset;
  if (provenance.command.empty()) provenance.command = heading.command;
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
  return table;
}

}  // namespace reverie
