#include "trainers/tables/memories/memory_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/error.h"

namespace reverie {
namespace {

// Shares of right answers of each run, taken together.
MemoryFigures shares_over(const std::vector<const MemoryRun*>& runs,
                          const std::function<bool(int64_t distance)>& asked) {
  std::vector<double> carried, wiped, swapped;
  MemoryFigures out;
  for (const MemoryRun* run : runs) {
    DistanceAccuracy with, without, other;
    double expected = 0;
    for (const auto& a : run->measured.answers) {
      if (!asked(a.carried.distance)) continue;
      const auto add = [](DistanceAccuracy& to, const DistanceAccuracy& from) {
        to.right += from.right;
        to.of += from.of;
      };
      add(with, a.carried);
      expected += a.carried.chance * double(a.carried.of);
      if (a.wiped) add(without, *a.wiped);
      if (a.swapped) add(other, *a.swapped);
    }
    if (with.of == 0) continue;
    carried.push_back(with.share());
    if (without.of > 0) wiped.push_back(without.share());
    if (other.of > 0) swapped.push_back(other.share());
    out.chance = expected / double(with.of);
    out.answers = with.of;
  }
  out.carried = statistic(carried);
  out.wiped = statistic(wiped);
  out.swapped = statistic(swapped);
  return out;
}

MemoryFigures bits_over(const std::vector<const MemoryRun*>& runs) {
  std::vector<double> carried, wiped, swapped;
  for (const MemoryRun* run : runs) {
    const MemoryMeasurement::Text& text = *run->measured.text;
    carried.push_back(text.carried);
    if (text.wiped) wiped.push_back(*text.wiped);
    if (text.swapped) swapped.push_back(*text.swapped);
  }
  return {statistic(carried), statistic(wiped), statistic(swapped)};
}

MemoryRow make_row(const std::vector<const MemoryRun*>& runs, const TableModel& model,
                   const std::string& task) {
  MemoryRow row;
  row.model = model.name;
  row.title = model.title;
  row.task = task;
  std::vector<double> milliseconds;
  for (const MemoryRun* run : runs) {
    require(std::find(row.seeds.begin(), row.seeds.end(), run->seed) == row.seeds.end(),
            "two runs of {} on {} have seed {}; the second is {}", model.name, task, run->seed,
            run->directory);
    row.seeds.push_back(run->seed);
    row.verdict.merge(Verdict::of_file(run->summary));
    row.verdict.merge(run->measured.verdict);
    row.parameters = run->summary.value("parameters", int64_t(0));
    row.state_bytes = run->measured.state_bytes;
    row.flops_per_token = run->measured.flops_per_token;
    milliseconds.push_back(run->measured.milliseconds_per_token);
  }
  row.milliseconds_per_token = statistic(milliseconds);
  if (runs[0]->measured.text) {
    row.text = bits_over(runs);
    return row;
  }
  for (const auto& a : runs[0]->measured.answers) {
    const int64_t distance = a.carried.distance;
    row.distances.push_back(
        {distance, shares_over(runs, [&](int64_t d) { return d == distance; })});
  }
  row.beyond = shares_over(runs, [](int64_t d) { return d >= 1; });
  return row;
}

// 95 % interval of a share of `of` answers (Wilson).
std::pair<double, double> wilson_interval(double share, double of) {
  constexpr double z = 1.959964;
  const double middle = (share + z * z / (2 * of)) / (1 + z * z / of),
               half = z / (1 + z * z / of) *
                      std::sqrt(share * (1 - share) / of + z * z / (4 * of * of));
  return {middle - half, middle + half};
}

}  // namespace

const MemoryFigures& MemoryRow::figures() const {
  if (text) return *text;
  if (beyond) return *beyond;
  throw InternalError(fmt::format("the row of {} on {} has no figures", model, task));
}

bool MemorySanity::known() const {
  return std::isfinite(oracle) && std::isfinite(baseline);
}

std::string MemorySanity::sentence(const std::string& oracle_title,
                                   const std::string& baseline_title) const {
  if (!known())
    return fmt::format(
        "{}: not known yet whether the task measures memory; {} and {} have not both "
        "finished.",
        task, oracle_title, baseline_title);
  const auto word = [](bool holds) { return holds ? "holds" : "does NOT hold"; };
  std::string out = fmt::format(
      "{}, beyond one window: {} answers {:.1f} % rightly (95 % or more wanted: {}), {} {:.1f} % "
      "[{:.1f}, {:.1f}] (chance, {:.1f} %, within this interval wanted: {}).",
      task, oracle_title, 100 * oracle, word(oracle_holds()), baseline_title, 100 * baseline,
      100 * low, 100 * high, 100 * chance, word(baseline_holds()));
  if (!oracle_holds())
    out +=
        " Even with all in sight this model does not learn the task in this training, so low "
        "figures there say nothing against a memory.";
  if (!baseline_holds())
    out +=
        " A model without memory does not guess as the task says, so the task is to be looked at "
        "before its figures are.";
  return out;
}

const MemoryRow* MemoryTable::find(const std::string& model, const std::string& task) const {
  for (const MemoryRow& row : rows)
    if (row.model == model && row.task == task) return &row;
  return nullptr;
}

std::vector<const MemoryRow*> MemoryTable::of_task(const std::string& task) const {
  std::vector<const MemoryRow*> out;
  for (const MemoryRow& row : rows)
    if (row.task == task) out.push_back(&row);
  return out;
}

std::string MemoryTable::title_of(const std::string& model) const {
  for (const TableModel& m : models)
    if (m.name == model) return m.title;
  return model;
}

std::vector<MemorySanity> MemoryTable::sanity() const {
  std::vector<MemorySanity> out;
  for (const std::string& task : tasks) {
    const auto of = of_task(task);
    if (of.empty() || of[0]->text) continue;
    MemorySanity s{task, std::nan(""), std::nan("")};
    if (const MemoryRow* row = find(oracle, task)) s.oracle = row->beyond->carried.mean;
    if (const MemoryRow* row = find(baseline, task)) {
      s.baseline = row->beyond->carried.mean;
      s.chance = row->beyond->chance;
      std::tie(s.low, s.high) = wilson_interval(s.baseline, double(row->beyond->answers));
    }
    out.push_back(s);
  }
  return out;
}

MemoryTable build_memory_table(const TableReport& report, const TableHeading& heading,
                               const MemoryRoles& roles, const std::vector<MemoryRun>& runs,
                               Provenance provenance) {
  MemoryTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.notes = report.notes;
  table.models = report.table_models();
  table.baseline = roles.baseline;
  table.oracle = roles.oracle;
  table.planned_runs = heading.planned_runs;
  table.finished_runs = int64_t(runs.size());
  table.provenance = std::move(provenance);
  table.provenance.preset = heading.preset;
  table.provenance.command = heading.command;
  for (const MemoryRun& run : runs) {
    if (std::none_of(table.models.begin(), table.models.end(),
                     [&](const TableModel& m) { return m.name == run.model; }))
      table.models.push_back({run.model, run.model, ""});
    table.provenance.add_run_of_part(run.summary, run.directory, run.task);
  }
  for (const std::string& task : roles.tasks) {
    const size_t before = table.rows.size();
    for (const TableModel& model : table.models) {
      std::vector<const MemoryRun*> of_cell;
      for (const MemoryRun& run : runs)
        if (run.model == model.name && run.task == task) of_cell.push_back(&run);
      if (!of_cell.empty()) table.rows.push_back(make_row(of_cell, model, task));
    }
    if (table.rows.size() > before) table.tasks.push_back(task);
  }
  return table;
}

std::vector<MemoryOverview> memory_overview(const MemoryTable& table) {
  std::vector<MemoryOverview> out;
  for (const TableModel& model : table.models) {
    MemoryOverview line;
    line.model = &model;
    std::vector<double> parameters, flops, milliseconds, state;
    for (const std::string& task : table.tasks) {
      const MemoryRow* row = table.find(model.name, task);
      line.rows.push_back(row);
      if (!row) continue;
      parameters.push_back(double(row->parameters));
      flops.push_back(row->flops_per_token);
      milliseconds.push_back(row->milliseconds_per_token.mean);
      state.push_back(double(row->state_bytes));
      line.verdict.merge(row->verdict);
    }
    if (parameters.empty()) continue;
    line.parameters = span_of(parameters, 0);
    line.flops = span_of(flops, 0);
    line.milliseconds = span_of(milliseconds, 4);
    line.state = span_of(state, 0);
    out.push_back(std::move(line));
  }
  return out;
}

}  // namespace reverie
