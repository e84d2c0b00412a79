#include "trainers/tables/benchmarks/benchmark_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"

namespace reverie {
namespace {

std::string title_of(const std::vector<TableModel>& models, const BenchmarkCell& cell) {
  std::string title = cell.model;
  for (const TableModel& m : models)
    if (m.name == cell.model) title = m.title;
  if (cell.latents > 0) title += fmt::format(", {}", cell.latents);
  if (cell.stage > 0) title += fmt::format(", stage {}", cell.stage);
  if (cell.latents_every > 0) title += fmt::format(", anew every {} tokens", cell.latents_every);
  return cell.shuffled ? title + ", shuffled" : title;
}

BenchmarkRow make_row(const std::vector<const BenchmarkRun*>& runs,
                      const std::vector<TableModel>& models) {
  BenchmarkRow row;
  row.cell = runs[0]->cell;
  row.title = title_of(models, row.cell);
  row.chance = runs[0]->chance;
  row.items = int64_t(runs[0]->right.size());
  row.all_items = runs[0]->all_items;
  row.trained = runs[0]->seed.has_value();
  std::vector<double> accuracy, tokens, milliseconds;
  for (const BenchmarkRun* run : runs) {
    const int64_t seed = run->seed.value_or(0);
    require(!row.right.contains(seed), "two runs of {} on {} have seed {}; the second is {}",
            row.title, row.cell.task, seed, run->directory);
    row.seeds.push_back(seed);
    row.right[seed] = run->right;
    accuracy.push_back(mean_estimate(run->right).mean);
    tokens.push_back(run->tokens);
    milliseconds.push_back(run->milliseconds);
    row.verdict.merge(run->verdict);
  }
  row.accuracy = statistic(accuracy);
  row.tokens = statistic(tokens);
  row.milliseconds = statistic(milliseconds);
  return row;
}

// The row that `name` of "compared" means beside `row`: with latents made as often, and as many,
// where there is one, else with the most; of stages, the last. Null where none has finished.
const BenchmarkRow* row_named(const BenchmarkTable& table, const BenchmarkRow& row,
                              const std::string& name) {
  constexpr std::string_view kShuffled = "_shuffled";
  const bool shuffled = name.ends_with(kShuffled);
  const std::string model = shuffled ? name.substr(0, name.size() - kShuffled.size()) : name;
  const BenchmarkRow* best = nullptr;
  for (const BenchmarkRow* other : table.of_task(row.cell.task)) {
    if (other->cell.model != model || other->cell.shuffled != shuffled) continue;
    const auto nearer = [&](const BenchmarkRow& r) {
      return std::tuple(r.cell.latents_every == row.cell.latents_every,
                        r.cell.latents == row.cell.latents, r.cell.latents, r.cell.stage);
    };
    if (!best || nearer(*other) > nearer(*best)) best = other;
  }
  return best;
}

// The same latents, made behind the question alone.
const BenchmarkRow* made_once(const BenchmarkTable& table, const BenchmarkRow& row) {
  BenchmarkCell cell = row.cell;
  cell.latents_every = 0;
  for (const BenchmarkRow& other : table.rows)
    if (other.cell == cell) return &other;
  return nullptr;
}

void require_same_items(const std::vector<BenchmarkRun>& runs) {
  std::map<std::string, const BenchmarkRun*> first;
  for (const BenchmarkRun& run : runs) {
    const auto [at, made] = first.try_emplace(run.cell.task, &run);
    const BenchmarkRun& other = *at->second;
    require(other.items_hash == run.items_hash && other.right.size() == run.right.size(),
            "runs of the task {} were measured on other items: {} on {} ({}), {} on {} ({})",
            run.cell.task, other.directory, other.right.size(), other.items_hash, run.directory,
            run.right.size(), run.items_hash);
  }
}

}  // namespace

int BenchmarkComparison::sign() const {
  const auto all = [&](auto&& holds) { return std::all_of(by_seed.begin(), by_seed.end(), holds); };
  if (low > 0 && all([](double d) { return d > 0; })) return 1;
  if (high < 0 && all([](double d) { return d < 0; })) return -1;
  return 0;
}

std::optional<BenchmarkComparison> compare_rows(const BenchmarkRow& a, const BenchmarkRow& b,
                                                int64_t resamples) {
  std::set<int64_t> seeds;
  for (const BenchmarkRow* row : {&a, &b})
    if (row->trained) seeds.insert(row->seeds.begin(), row->seeds.end());
  if (seeds.empty()) seeds.insert(0);
  BenchmarkComparison out;
  out.leaks = a.verdict.leaks() || b.verdict.leaks();
  out.p = 0;
  std::vector<double> mean_a(size_t(a.items)), mean_b(size_t(a.items));
  const auto of = [](const BenchmarkRow& row, int64_t seed) {
    const auto found = row.right.find(row.trained ? seed : 0);
    return found == row.right.end() ? nullptr : &found->second;
  };
  for (const int64_t seed : seeds) {
    const std::vector<double>*mine = of(a, seed), *its = of(b, seed);
    if (!mine || !its) continue;
    const PairedDifference d = paired_difference(*mine, *its, 1);
    out.by_seed.push_back(d.mean);
    out.p = std::max(out.p, d.mcnemar_p);
    for (size_t i = 0; i < mean_a.size(); ++i) {
      mean_a[i] += (*mine)[i];
      mean_b[i] += (*its)[i];
    }
  }
  if (out.by_seed.empty()) return std::nullopt;
  for (std::vector<double>* mean : {&mean_a, &mean_b})
    for (double& value : *mean) value /= double(out.by_seed.size());
  const PairedDifference d = paired_difference(mean_a, mean_b, resamples);
  out.mean = d.mean;
  out.low = d.low;
  out.high = d.high;
  return out;
}

std::vector<const BenchmarkRow*> BenchmarkTable::of_task(const std::string& task) const {
  std::vector<const BenchmarkRow*> out;
  for (const BenchmarkRow& row : rows)
    if (row.cell.task == task) out.push_back(&row);
  return out;
}

std::vector<const BenchmarkGap*> BenchmarkTable::gaps_of_task(const std::string& task) const {
  std::vector<const BenchmarkGap*> out;
  for (const BenchmarkGap& gap : gaps)
    if (gap.cell.task == task) out.push_back(&gap);
  return out;
}

const BenchmarkRow* BenchmarkTable::baseline_of(const std::string& task) const {
  for (const BenchmarkRow* row : of_task(task))
    if (row->cell.model == roles.baseline) return row;
  return nullptr;
}

std::vector<BenchmarkFinding> BenchmarkTable::findings() const {
  std::vector<BenchmarkFinding> out;
  for (const BenchmarkRow& row : rows) {
    const auto* others = roles.compared.find(row.cell.model);
    if (others == nullptr || row.cell.shuffled) continue;
    // Of stages, only the last is what was to be made.
    const BenchmarkRow* last = row_named(*this, row, row.cell.model);
    if (row.cell.stage > 0 && last->cell.stage != row.cell.stage) continue;
    BenchmarkFinding finding{&row, {}};
    std::vector<const BenchmarkRow*> against = {baseline_of(row.cell.task)};
    if (row.cell.latents_every > 0) against.push_back(made_once(*this, row));
    for (const std::string& name : *others) against.push_back(row_named(*this, row, name));
    for (const BenchmarkRow* other : against)
      if (other && other != &row)
        if (const auto comparison = compare_rows(row, *other, roles.resamples))
          finding.against.push_back({other, *comparison});
    if (!finding.against.empty()) out.push_back(std::move(finding));
  }
  return out;
}

void add_gaps(BenchmarkTable& table, std::vector<BenchmarkGap> gaps) {
  for (BenchmarkGap& gap : gaps) {
    gap.title = title_of(table.models, gap.cell);
    table.gaps.push_back(std::move(gap));
  }
}

void add_missing_runs(BenchmarkTable& table, std::vector<MissingRuns> missing) {
  for (MissingRuns& runs : missing) {
    runs.title = title_of(table.models, {.task = "", .model = runs.model});
    table.missing_runs.push_back(std::move(runs));
  }
}

BenchmarkTable build_benchmark_table(const TableReport& report, const TableHeading& heading,
                                     const BenchmarkRoles& roles,
                                     const std::vector<BenchmarkRun>& runs, Provenance provenance) {
  require_same_items(runs);
  BenchmarkTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.notes = report.notes;
  table.models = report.table_models();
  table.roles = roles;
  table.planned_runs = heading.planned_runs;
  table.provenance = std::move(provenance);
  table.provenance.preset = heading.preset;
  table.provenance.command = heading.command;
  for (const BenchmarkRun& run : runs) {
    if (std::none_of(table.models.begin(), table.models.end(),
                     [&](const TableModel& m) { return m.name == run.cell.model; }))
      table.models.push_back({run.cell.model, run.cell.model, ""});
    if (run.summary.is_null() || run.cell.shuffled) continue;
    ++table.finished_runs;
    table.provenance.add_run_of_part(run.summary, run.directory, run.cell.task);
  }
  for (const BenchmarkRun& run : runs) {
    const bool known = std::any_of(table.rows.begin(), table.rows.end(),
                                   [&](const BenchmarkRow& r) { return r.cell == run.cell; });
    if (known) continue;
    std::vector<const BenchmarkRun*> of_cell;
    for (const BenchmarkRun& other : runs)
      if (other.cell == run.cell) of_cell.push_back(&other);
    table.rows.push_back(make_row(of_cell, table.models));
  }
  const auto place = [](const auto& list, const auto& holds) {
    return std::find_if(list.begin(), list.end(), holds) - list.begin();
  };
  const auto order = [&](const BenchmarkRow& row) {
    return std::tuple(place(roles.tasks, [&](const auto& t) { return t == row.cell.task; }),
                      place(table.models, [&](const auto& m) { return m.name == row.cell.model; }),
                      row.cell.latents, row.cell.stage, row.cell.latents_every, row.cell.shuffled);
  };
  std::stable_sort(table.rows.begin(), table.rows.end(),
                   [&](const auto& a, const auto& b) { return order(a) < order(b); });
  for (BenchmarkRow& row : table.rows)
    if (const BenchmarkRow* base = table.baseline_of(row.cell.task); base && base != &row)
      row.against_base = compare_rows(row, *base, roles.resamples);
  return table;
}

}  // namespace reverie
