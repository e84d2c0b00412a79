#include "trainers/tables/latents/latent_table.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace reverie {
namespace {

using Cell = std::pair<std::string, int64_t>;  // model, latents
using Paper = std::map<Cell, std::map<int64_t, double>>;

Paper read_paper(const Json& paper) {
  Paper out;
  for (const auto& [model, by_latents] : paper.items()) {
    const std::string path = "$.paper." + model;
    if (!by_latents.is_object())
      throw ConfigError(fmt::format("{} is {}, wanted {{LATENTS: {{POSITION: percent}}}}", path,
                                    by_latents.type_name()));
    for (const auto& [latents, by_position] : by_latents.items()) {
      auto& figures = out[{model, number_of_key(latents, "number of latents", path)}];
      const std::string here = path + "." + latents;
      if (!by_position.is_object())
        throw ConfigError(
            fmt::format("{} is {}, wanted {{POSITION: percent}}", here, by_position.type_name()));
      for (const auto& [position, change] : by_position.items()) {
        const int64_t number = number_of_key(position, "position", here);
        if (!change.is_number())
          throw ConfigError(fmt::format("{}.{} is {}, wanted a number of percent", here, position,
                                        change.type_name()));
        figures[number] = change;
      }
    }
  }
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

LatentTable build_latent_table(const Json& definition, const std::vector<LatentRun>& runs,
                               int64_t resamples, Provenance provenance) {
  refuse_unknown_keys(definition,
                      {"title", "citation", "notes", "base", "preset", "command", "planned_runs",
                       "shown", "subject_latents", "models", "paper", "curve"},
                      "$");
  LatentTable table;
  table.title = text_at(definition, "title", "$", true);
  table.citation = text_at(definition, "citation", "$", false);
  table.notes = texts_at(definition, "notes", "$");
  table.base = text_at(definition, "base", "$", false);
  table.curve = texts_at(definition, "curve", "$");
  if (definition.contains("shown"))
    table.shown = list_at<int64_t>(Config(definition, "$"), "shown");
  if (const Json* models =
          find_typed(definition, "models", &Json::is_object, "an object", "$", false))
    table.models = read_table_models(*models, "$.models");
  Paper paper;
  if (const Json* figures =
          find_typed(definition, "paper", &Json::is_object, "an object", "$", false))
    paper = read_paper(*figures);
  table.finished_runs = int64_t(runs.size());
  if (const Json* planned = find_typed(definition, "planned_runs", &Json::is_number_integer,
                                       "an integer", "$", false))
    table.planned_runs = planned->get<int64_t>();
  if (const Json* latents = find_typed(definition, "subject_latents", &Json::is_number_integer,
                                       "an integer", "$", false))
    table.subject_latents = latents->get<int64_t>();
  for (const std::string& model : table.curve)
    if (std::none_of(table.models.begin(), table.models.end(),
                     [&](const TableModel& known) { return known.name == model; }))
      throw ConfigError(fmt::format("$.curve: no model \"{}\" in $.models", model));
  table.provenance = std::move(provenance);
  table.provenance.preset = text_at(definition, "preset", "$", false);
  table.provenance.command = text_at(definition, "command", "$", false);

  std::map<Cell, std::vector<Part>> parts;
  std::vector<std::string> order;
  const auto add = [&](const std::string& model, const LatentRun& run,
                       const PositionLosses& losses) {
    parts[{model, run.latents}].push_back({&run, &losses});
    if (std::find(order.begin(), order.end(), model) == order.end()) order.push_back(model);
  };
  for (const TableModel& m : table.models) order.push_back(m.name);
  for (const LatentRun& run : runs) {
    add(run.model, run, run.measurement.own);
    if (run.measurement.shuffled) add(run.model + kShuffledSuffix, run, *run.measurement.shuffled);
    if (run.other_data)
      table.provenance.add_run_on_other_data(run.summary, run.directory, run.model);
    else
      table.provenance.add_run(run.summary, run.directory);
  }
  LatentEffectOptions options;
  options.resamples = resamples;
  for (const std::string& name : order)
    for (const auto& [cell, of_cell] : parts) {
      if (cell.first != name) continue;
      table.lines.push_back(
          make_line(model_named(table.models, name), cell.second, of_cell, options));
      if (const auto figures = paper.find(cell); figures != paper.end())
        table.lines.back().paper = figures->second;
    }
  if (const LatentLine* subject = table.subject()) {
    for (LatentLine& line : table.lines) {
      // Fewer or more latents are another question than whether these beat a control.
      const auto as_many =
          parts.find({subject->model, line.latents > 0 ? line.latents : subject->latents});
      if (line.model != subject->model && as_many != parts.end())
        line.subject_against_it = paired_effect(
            losses_of(as_many->second), losses_of(parts.at({line.model, line.latents})), options);
    }
  }
  // The base is the same everywhere.
  for (const LatentRun& run : runs) {
    const PositionLosses* both[] = {&runs[0].measurement.own, &run.measurement.own};
    options.resamples = 0;
    const LatentEffect effect = latent_effect(both, options);
    if (&run != &runs[0]) continue;
    for (const auto& p : effect.by_position) table.base_perplexity.push_back(std::exp(p.base_nll));
    table.base_perplexity_of_all = std::exp(effect.all.base_nll);
    table.base_costs = run.measurement.base_costs;
  }
  return table;
}

}  // namespace reverie
