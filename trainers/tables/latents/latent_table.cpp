#include "trainers/tables/latents/latent_table.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace reverie {
namespace {

using Cell = std::pair<std::string, int64_t>;  // model, latents
using Paper = std::map<Cell, std::map<int64_t, double>>;

Paper paper_of(const LatentReport& report) {
  Paper out;
  for (const auto& [model, by_latents] : report.paper)
    for (const auto& [latents, by_position] : by_latents)
      for (const auto& [position, change] : by_position)
        out[{model, number_of_key(latents)}][number_of_key(position)] = change;
  return out;
}

// What of a run goes into one line.
struct Part {
  const LatentRun* run;
  const PositionLosses* losses;
};

std::vector<const PositionLosses*> losses_of(const std::vector<Part>& parts) {
  std::vector<const PositionLosses*> losses;
  for (const Part& part : parts) losses.push_back(part.losses);
  return losses;
}

LatentLine make_line(const TableModel& model, int64_t latents, std::vector<Part> parts,
                     const LatentEffectOptions& options) {
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.run->seed < b.run->seed; });
  LatentLine line;
  line.model = model.name;
  line.title = model.title;
  line.latents = latents;
  for (const Part& part : parts) {
    if (!line.seeds.empty() && line.seeds.back() == part.run->seed)
      throw UserError(fmt::format("two runs of {} with {} latents have the seed {}; one is {}",
                                  model.name, latents, part.run->seed, part.run->directory));
    line.seeds.push_back(part.run->seed);
    line.verdict.merge(part.run->verdict);
    line.training_insertions = part.run->training_insertions;
    const LatentCosts& costs = part.run->measurement.costs;
    const double latency = line.costs.latency_ms + costs.latency_ms / double(parts.size());
    line.costs = costs;
    line.costs.latency_ms = latency;
  }
  line.effect = latent_effect(losses_of(parts), options);
  return line;
}

using Parts = std::map<Cell, std::vector<Part>>;

// What goes into each line: a run's own losses, and those of its shuffled latents.
Parts parts_of(const std::vector<LatentRun>& runs) {
  Parts parts;
  for (const LatentRun& run : runs) {
    parts[{run.model, run.latents}].push_back({&run, &run.measurement.own});
    if (run.measurement.shuffled)
      parts[{run.model + kShuffledSuffix, run.latents}].push_back(
          {&run, &*run.measurement.shuffled});
  }
  return parts;
}

// Models in the order of the table's; others follow as their runs do.
std::vector<std::string> order_of_models(const LatentTable& table,
                                         const std::vector<LatentRun>& runs) {
  std::vector<std::string> order;
  const auto add = [&](const std::string& model) {
    if (std::find(order.begin(), order.end(), model) == order.end()) order.push_back(model);
  };
  for (const TableModel& m : table.models) order.push_back(m.name);
  for (const LatentRun& run : runs) {
    add(run.model);
    if (run.measurement.shuffled) add(run.model + kShuffledSuffix);
  }
  return order;
}

void compare_with_subject(LatentTable& table, const Parts& parts,
                          const LatentEffectOptions& options) {
  const LatentLine* subject = table.subject();
  if (!subject) return;
  for (LatentLine& line : table.lines) {
    // Fewer or more latents are another question than whether these beat a control.
    const auto as_many =
        parts.find({subject->model, line.latents > 0 ? line.latents : subject->latents});
    if (line.model != subject->model && as_many != parts.end())
      line.subject_against_it = paired_effect(
          losses_of(as_many->second), losses_of(parts.at({line.model, line.latents})), options);
  }
}

// The base is the same everywhere: latent_effect() refuses runs whose bases differ.
void set_base_figures(LatentTable& table, const std::vector<LatentRun>& runs,
                      LatentEffectOptions options) {
  options.resamples = 0;
  for (const LatentRun& run : runs) {
    const PositionLosses* both[] = {&runs[0].measurement.own, &run.measurement.own};
    const LatentEffect effect = latent_effect(both, options);
    if (&run != &runs[0]) continue;
    for (const auto& p : effect.by_position) table.base_perplexity.push_back(std::exp(p.base_nll));
    table.base_perplexity_of_all = std::exp(effect.all.base_nll);
    table.base_costs = run.measurement.base_costs;
  }
}

TableModel model_named(const std::vector<TableModel>& models, const std::string& name) {
  for (const TableModel& m : models)
    if (m.name == name) return m;
  return {name, name, ""};
}

}  // namespace

const LatentLine* LatentTable::find(const std::string& model, int64_t latents) const {
  for (const LatentLine& line : lines)
    if (line.model == model && line.latents == latents) return &line;
  return nullptr;
}

const LatentLine* LatentTable::subject() const {
  const LatentLine* found = nullptr;
  for (const LatentLine& line : lines)
    if (line.latents > 0) {
      if (const LatentLine* wanted = find(line.model, subject_latents)) return wanted;
      break;
    }
  for (const LatentLine& line : lines)
    if (line.latents > 0 &&
        (!found || (line.model == found->model && line.latents > found->latents)))
      found = &line;
  return found;
}

void LatentReport::fields(Fields& f) {
  TableReport::fields(f);
  const auto position = [](Fields& inner, const std::string& name, double& change) {
    inner.number(name, change, {}, "change of perplexity in percent");
  };
  const auto latents = [&](Fields& inner, const std::string& name, Named<double>& figures) {
    describe_named(inner, name, figures, "by position", position);
  };
  describe_named(f, "paper", paper, "the paper's figures, by model, number of latents and position",
                 [&](Fields& inner, const std::string& name, Named<Named<double>>& figures) {
                   describe_named(inner, name, figures, "by number of latents", latents);
                 });
  for (const auto& [model, by_latents] : paper) {
    number_keys(f, by_latents.names(), "paper." + model, "number of latents");
    for (const auto& [number, by_position] : by_latents)
      number_keys(f, by_position.names(), fmt::format("paper.{}.{}", model, number), "position");
  }
  f.integer("subject_latents", subject_latents, kNonNegative,
            "the number of latents of which the text below the title speaks; 0: the most");
  f.texts("curve", curve,
          "models that differ in the length of their training alone, for a plot against it");
  for (const std::string& model : curve)
    f.rule(models.find(model) != nullptr,
           fmt::format("curve: no model \"{}\" in \"models\"", model));
}

LatentTable build_latent_table(const LatentReport& report, const LatentHeading& heading,
                               const std::vector<LatentRun>& runs, int64_t resamples,
                               Provenance provenance) {
  LatentTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.notes = report.notes;
  table.base = heading.base;
  table.curve = report.curve;
  table.shown = heading.shown;
  table.models = report.table_models();
  const Paper paper = paper_of(report);
  table.finished_runs = int64_t(runs.size());
  table.planned_runs = heading.planned_runs;
  table.subject_latents = report.subject_latents;
  table.provenance = std::move(provenance);
  table.provenance.preset = heading.preset;
  table.provenance.command = heading.command;

  for (const LatentRun& run : runs) {
    if (run.other_data)
      table.provenance.add_run_on_other_data(run.summary, run.directory, run.model);
    else
      table.provenance.add_run(run.summary, run.directory);
  }
  const Parts parts = parts_of(runs);
  LatentEffectOptions options;
  options.resamples = resamples;
  for (const std::string& name : order_of_models(table, runs))
    for (const auto& [cell, of_cell] : parts) {
      if (cell.first != name) continue;
      table.lines.push_back(
          make_line(model_named(table.models, name), cell.second, of_cell, options));
      if (const auto figures = paper.find(cell); figures != paper.end())
        table.lines.back().paper = figures->second;
    }
  compare_with_subject(table, parts, options);
  set_base_figures(table, runs, options);
  return table;
}

std::string shrunk_label(const LatentTable& table) {
  return table.lines.empty() ? "" : table.lines[0].verdict.shrunk_label();
}

}  // namespace reverie
