#include "trainers/tables/sweeps/sweep_table.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/json.h"

namespace reverie {
namespace {

constexpr size_t kLongestName = 80;

// What a directory's name can hold.
std::string plain_name(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += std::isalnum(uint8_t(c)) || std::string_view("._+-=,").find(c) != std::string_view::npos
               ? c
               : '_';
  return out.substr(0, kLongestName);
}

std::string value_text(const Json& value) {
  if (value.is_object() && value.contains("type") && value["type"].is_string())
    return value["type"].get<std::string>();
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

// Of values that are not finite there is none, and no mean stands for them.
Statistic of_runs(const std::vector<const SweepRun*>& runs, const char* key) {
  std::vector<double> values;
  for (const SweepRun* run : runs) values.push_back(run->record.figure(key));
  return statistic(values);
}

// Where only some of the runs write latents, the losses of every token: of these, the base's.
std::vector<SweepColumn> columns_for(const std::vector<SweepRun>& runs) {
  if (!runs.empty() && std::all_of(runs.begin(), runs.end(),
                                   [](const SweepRun& run) { return run.record.has_latents(); }))
    return {{"augmented.val_loss", "val, behind latents", "behind latents"},
            {"augmented.base_loss_on_same_predictions", "val, base on the same tokens",
             "the base on the same tokens"},
            {"augmented.train_loss", "train, behind latents", ""}};
  return {{"val_loss", "val, teacher-forced", "teacher-forced"},
          {"val_loss_prefix_only", "val, prefix-only", "prefix-only"},
          {"train_loss", "train", ""}};
}

SweepRow make_row(const SweepCell& cell, const std::vector<SweepColumn>& columns,
                  const std::vector<const SweepRun*>& runs) {
  SweepRow row;
  row.cell = cell;
  for (const SweepRun* run : runs) {
    require(std::find(row.seeds.begin(), row.seeds.end(), run->seed) == row.seeds.end(),
            "two runs of {} have seed {}; the second is {}", cell.name, run->seed,
            run->record.directory);
    row.seeds.push_back(run->seed);
    if (row.label.empty()) row.label = run->record.label();
    row.parameters = int64_t(run->record.figure("parameters"));
    row.seconds += run->record.figure("seconds") / double(runs.size());
  }
  for (const SweepColumn& column : columns) row.losses.push_back(of_runs(runs, column.key));
  return row;
}

// Two means that seeds alone could hold apart so far.
bool not_told_apart(const Statistic& a, const Statistic& b) {
  if (!a.sd || !b.sd) return false;
  const double error = std::sqrt(*a.sd * *a.sd / double(a.n) + *b.sd * *b.sd / double(b.n));
  return std::abs(a.mean - b.mean) <= 2 * error;
}

}  // namespace

std::vector<SweepAxis> read_sweep_axes(const Json& vary, const std::string& path) {
  if (!vary.is_object() || vary.empty())
    throw ConfigError(fmt::format(
        "{} is {}, wanted {{PATH: [VALUE, ...]}} such as {{\"optimizer.learning_rate\": [1e-3, "
        "3e-4]}}",
        path, vary.is_object() ? "empty" : vary.type_name()));
  std::vector<SweepAxis> axes;
  std::map<std::string, int> last_parts;
  const auto last_part = [](const std::string& key) { return key.substr(key.rfind('.') + 1); };
  for (const auto& [key, values] : vary.items()) {
    const std::string here = fmt::format("{}.\"{}\"", path, key);
    if (!values.is_array() || values.empty())
      throw ConfigError(fmt::format("{} is {}, wanted a list of one value or more", here,
                                    values.is_array() ? "empty" : values.type_name()));
    if (key == "seed")
      throw ConfigError(here +
                        ": seeds are those of the preset (\"seeds\"); means are taken "
                        "over them");
    if (key == "data" || key.starts_with("data."))
      throw ConfigError(here +
                        ": losses on other data or tokens are other quantities, which one table "
                        "cannot compare; make a sweep for each");
    std::set<std::string> seen;
    for (const Json& value : values)
      if (!seen.insert(json_text(value)).second)
        throw ConfigError(fmt::format("{} holds {} twice", here, json_text(value)));
    axes.push_back({key, "", values.get<std::vector<Json>>()});
    ++last_parts[last_part(key)];
  }
  for (SweepAxis& axis : axes)
    axis.name = last_parts[last_part(axis.path)] == 1 ? last_part(axis.path) : axis.path;
  return axes;
}

std::vector<SweepCell> sweep_cells(const std::vector<SweepAxis>& axes) {
  std::vector<SweepCell> cells(1);
  for (const SweepAxis& axis : axes) {
    std::vector<SweepCell> longer;
    for (const SweepCell& cell : cells)
      for (const Json& value : axis.values) {
        longer.push_back(cell);
        longer.back().assignments.emplace_back(axis.path, value);
        longer.back().name += (cell.name.empty() ? "" : ",") + axis.name + "=" + value_text(value);
      }
    cells = std::move(longer);
  }
  std::set<std::string> names;
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].name = plain_name(cells[i].name);
    // Objects of one type, and what was cut off, are told apart by their number.
    if (!names.insert(cells[i].name).second) {
      cells[i].name += fmt::format("_{}", i + 1);
      names.insert(cells[i].name);
    }
  }
  return cells;
}

SweepTable build_sweep_table(const std::vector<SweepAxis>& axes, std::vector<SweepRun> runs,
                             Provenance provenance) {
  SweepTable table;
  table.axes = axes;
  table.provenance = std::move(provenance);
  table.runs = std::move(runs);
  table.finished_runs = int64_t(table.runs.size());
  table.columns = columns_for(table.runs);
  std::vector<RunRecord> records;
  for (const SweepRun& run : table.runs) records.push_back(run.record);
  table.comparable = same_losses(records);
  for (const SweepRun& run : table.runs)
    table.provenance.add_run(run.record.summary, run.record.directory);
  for (const SweepCell& cell : sweep_cells(axes)) {
    std::vector<const SweepRun*> of_cell;
    for (const SweepRun& run : table.runs)
      if (run.cell == cell.name) of_cell.push_back(&run);
    if (!of_cell.empty()) table.rows.push_back(make_row(cell, table.columns, of_cell));
  }
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const SweepRow& row = table.rows[i];
    if (!table.comparable || !row.label.empty() || !std::isfinite(row.compared().mean)) continue;
    if (!table.best || row.compared().mean < table.rows[*table.best].compared().mean)
      table.best = i;
  }
  if (table.best)
    for (SweepRow& row : table.rows)
      row.near_best = &row != &table.rows[*table.best] && row.label.empty() &&
                      not_told_apart(row.compared(), table.rows[*table.best].compared());
  return table;
}

}  // namespace reverie
