// report.html of a table of latents: one file without network, script or fonts of its own.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "trainers/reports/numbers.h"
#include "trainers/reports/page.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/html.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

constexpr const char* kPaper = "the paper";

// Of the change in percent: above it the axis is logarithmic, since one control that fails by
// orders of magnitude would press all others flat.
double break_of(const LatentTable& table) {
  double lowest = 0;
  for (const LatentLine& line : table.lines)
    for (const auto& p : line.effect.by_position) lowest = std::min(lowest, p.change_percent);
  return std::max(5.0, -2 * lowest);
}

int color_of(const LatentTable& table, const std::string& model) {
  std::vector<std::string> known;
  for (const LatentLine& line : table.lines)
    if (std::find(known.begin(), known.end(), line.model) == known.end())
      known.push_back(line.model);
  return int(std::find(known.begin(), known.end(), model) - known.begin());
}

// What the others stand beside, where they are too many for one panel: the subject's line.
void compare_with_subject(LinePlot& plot, const std::vector<std::string>& models,
                          const LatentTable& table) {
  const LatentLine* subject = table.subject();
  if (plot.series.size() <= kMostLines || !subject) return;
  for (size_t i = 0; i < models.size() && !plot.compared_with; ++i)
    if (models[i] == subject->model) plot.compared_with = i;
}

LinePlot effect_plot(const LatentTable& table, int64_t latents) {
  LinePlot plot{fmt::format("{} latents", latents), "position after the latents",
                "change of perplexity (%)", double(table.base_perplexity.size())};
  plot.x_begin = 1;
  plot.reference = PlotReference{0, "the base"};
  plot.break_y = break_of(table);
  std::vector<std::string> models;  // of each series
  for (const LatentLine& line : table.lines) {
    if (line.latents != 0 && line.latents != latents) continue;
    PlotSeries series{line.title, line.verdict.label(), color_of(table, line.model)};
    for (const auto& p : line.effect.by_position) {
      series.mean.push_back({double(p.position), p.change_percent});
      if (p.high > p.low) series.band.push_back({double(p.position), p.low, p.high});
    }
    plot.series.push_back(std::move(series));
    models.push_back(line.model);
    if (line.paper.empty()) continue;
    PlotSeries paper{kPaper, "", kContextColor};
    for (const auto& [position, change] : line.paper)
      paper.mean.push_back({double(position), change});
    paper.dashed = true;
    paper.panel_of = plot.series.size() - 1;
    plot.series.push_back(std::move(paper));
    models.push_back("");
  }
  compare_with_subject(plot, models, table);
  return plot;
}

// Position 1 and the mean of all positions against the insertions that training saw.
std::optional<LinePlot> budget_plot(const LatentTable& table) {
  LinePlot plot{"by training", "insertions in training", "change of perplexity (%)"};
  plot.log_x = true;
  plot.reference = PlotReference{0, "the base"};
  plot.series = {{"position 1", "", 0}, {"all positions", "", 1}};
  double lowest = 0;
  for (const std::string& model : table.curve)
    if (const LatentLine* line = table.find(model, table.subject()->latents)) {
      const LatentEffect::Position* both[] = {&line->effect.by_position.at(0), &line->effect.all};
      for (size_t i = 0; i < 2; ++i) {
        const double x = double(line->training_insertions);
        plot.series[i].mean.push_back({x, both[i]->change_percent});
        plot.series[i].band.push_back({x, both[i]->low, both[i]->high});
        if (!line->verdict.label().empty()) plot.series[i].label = line->verdict.label();
        lowest = std::min(lowest, both[i]->low);
      }
    }
  if (plot.series[0].mean.size() < 2) return std::nullopt;
  plot.break_y = std::max(20.0, -2 * lowest);
  return plot;
}

std::vector<LinePlot> effect_plots(const LatentTable& table) {
  std::set<int64_t> numbers;
  for (const LatentLine& line : table.lines)
    if (line.latents > 0) numbers.insert(line.latents);
  std::vector<LinePlot> plots;
  for (const int64_t latents : numbers) plots.push_back(effect_plot(table, latents));
  return plots;
}

std::string plots(const LatentTable& table) {
  std::string out = "<section>\n<h2>Change of perplexity by position</h2>\n";
  bool paper = false;
  for (const LatentLine& line : table.lines) paper |= !line.paper.empty();
  for (const LinePlot& plot : effect_plots(table)) out += line_figure(plot);
  out += fmt::format(
      "<p class=\"quiet\">Against the untouched base on the same tokens. Line: the mean over the "
      "seeds; band: its 95 % interval, by resampling texts{}. Above +{:.0f} % the axis is broken "
      "and "
      "goes on logarithmically, so that no line is cut off. Point at a line for its values.</p>\n",
      paper ? "; dashed: the paper's, with its own base and data" : "", break_of(table));
  if (const auto budget = budget_plot(table))
    out += "</section>\n<section>\n<h2>Longer training</h2>\n" + line_figure(*budget) +
           "<p class=\"quiet\">The same training, longer and longer: every point is a model of its "
           "own, with its learning rate's whole schedule. Band: the 95 % interval.</p>\n";
  return out + "</section>\n";
}

std::string cell(const std::string& text, const char* kind = " class=\"number\"") {
  return fmt::format("<td{}>{}</td>", kind, escape_html(text));
}

std::string head(const std::vector<std::string>& columns) {
  std::string out = "<table>\n<thead><tr><th scope=\"col\" class=\"model\">model</th>";
  for (const auto& column : columns)
    out += "<th scope=\"col\" class=\"number\">" + escape_html(column) + "</th>";
  return out + "</tr></thead>\n<tbody>\n";
}
std::string row(const std::string& title, const std::vector<std::string>& cells) {
  std::string out = "<tr><th scope=\"row\" class=\"model\">" + escape_html(title) + "</th>";
  for (const auto& text : cells) out += cell(text);
  return out + "</tr>\n";
}
std::string section(const std::string& title, const std::string& table) {
  return "<section>\n<h2>" + escape_html(title) +
         "</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" +
         escape_html(title) + "\">\n" + table + "</tbody>\n</table>\n</div>\n</section>\n";
}

std::string latents_text(int64_t latents) {
  return latents > 0 ? std::to_string(latents) : "\u2013";
}

std::string table_section(const LatentTable& table) {
  std::vector<std::string> columns{"latents"};
  std::vector<size_t> shown;
  for (const int64_t position : table.shown)
    if (position <= int64_t(table.base_perplexity.size())) shown.push_back(size_t(position - 1));
  for (const size_t p : shown) columns.push_back(std::to_string(p + 1));
  columns.insert(columns.end(), {"all", "95 % interval", "seeds", "verdict"});
  std::string body;
  for (const LatentLine& line : table.lines) {
    std::vector<std::string> cells{latents_text(line.latents)};
    for (const size_t p : shown)
      cells.push_back(format_percent(line.effect.by_position[p].change_percent) +
                      line.verdict.mark());
    const auto& all = line.effect.all;
    cells.insert(cells.end(), {format_percent(all.change_percent) + line.verdict.mark(),
                               format_percent(all.low) + " to " + format_percent(all.high),
                               std::to_string(line.seeds.size()), verdict_word(line.verdict)});
    body += row(line.title, cells);
    if (line.paper.empty()) continue;
    std::vector<std::string> figures{latents_text(line.latents)};
    for (const size_t p : shown) {
      const auto figure = line.paper.find(int64_t(p) + 1);
      figures.push_back(figure == line.paper.end() ? "\u2013" : format_percent(figure->second));
    }
    figures.insert(figures.end(), {"", "", "", ""});
    body += row(kPaper, figures);
  }
  std::vector<std::string> base{""};
  for (const size_t p : shown) base.push_back(fmt::format("{:.3f}", table.base_perplexity[p]));
  base.insert(base.end(), {fmt::format("{:.3f}", table.base_perplexity_of_all), "", "", ""});
  return section("Change of perplexity",
                 head(columns) + body +
                     row("the base's perplexity" +
                             (shrunk_label(table).empty() ? "" : ", " + shrunk_label(table)),
                         base));
}

// The subject against each control, text by text; nothing where there is no control.
std::string against_section(const LatentTable& table) {
  std::string body;
  for (const LatentLine& line : table.lines) {
    if (!line.subject_against_it) continue;
    std::vector<std::string> cells{latents_text(line.latents)};
    for (const auto* p : {&line.subject_against_it->by_position[0], &line.subject_against_it->all})
      cells.insert(cells.end(), {format_percent(p->change_percent),
                                 format_percent(p->low) + " to " + format_percent(p->high)});
    body += row(line.title, cells);
  }
  if (body.empty()) return "";
  return section(table.subject()->title + " against each, text by text",
                 head({"latents", "position 1", "95 % interval", "all", "95 % interval"}) + body);
}

std::string costs_section(const LatentTable& table) {
  const auto cells = [](int64_t latents, const LatentCosts& c) {
    return std::vector<std::string>{latents_text(latents), format_integer(c.trainable_parameters),
                                    fmt::format("{:.3g}", c.flops_per_token),
                                    fmt::format("{:.3g}", c.flops_per_insertion),
                                    fmt::format("{:.2f}", c.latency_ms)};
  };
  std::string body = row("the base", cells(0, table.base_costs));
  for (const LatentLine& line : table.lines)
    if (!line.model.ends_with(kShuffledSuffix))
      body += row(line.title, cells(line.latents, line.costs));
  return section("Costs", head({"latents", "trained parameters", "FLOPs per token",
                                "FLOPs per insertion", "ms to the next token"}) +
                              body);
}

}  // namespace

std::vector<PlotFile> latent_plot_files(const LatentTable& table) {
  std::vector<PlotFile> files;
  for (const LinePlot& plot : effect_plots(table))
    if (const std::string svg = line_plot_file(plot); !svg.empty()) {
      std::string name = plot.title;
      std::replace(name.begin(), name.end(), ' ', '_');
      files.push_back({name + ".svg", "Change of perplexity by position, " + plot.title, svg});
    }
  if (const auto budget = budget_plot(table))
    files.push_back({"by_training.svg", "Change of perplexity by insertions in training",
                     line_plot_file(*budget)});
  return files;
}

std::string latent_report_html(const LatentTable& table) {
  std::string out =
      page_begin(title_of_table(table.title, table.provenance.preset), explain_latents(table));
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  out += "</header>\n" + table_section(table) + "<p>" + escape_html(detail_latents(table)) +
         "</p>\n" + against_section(table) + plots(table);
  std::string models = "<section>\n<h2>Models</h2>\n<dl>\n";
  for (const TableModel& model : table.models)
    models += "<dt>" + escape_html(model.title) + "</dt><dd>" + escape_html(model.description) +
              "</dd>\n";
  out += models + "</dl>\n</section>\n" + costs_section(table);
  return out + page_end(table.notes, table.provenance);
}

}  // namespace reverie
