// A sweep as JSON, Markdown and a page.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/json.h"
#include "trainers/reports/markdown.h"
#include "trainers/reports/page.h"
#include "trainers/tables/runs/run_plots.h"
#include "trainers/tables/sweeps/sweep_table.h"
#include "trainers/text/html.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

constexpr double kLogRange = 8;  // between the values of an axis, from which on it is logarithmic

Json statistic_json(const Statistic& s) {
  return {{"mean", number_or_null(s.mean)}, {"sd", s.sd ? Json(*s.sd) : Json()}, {"n", s.n}};
}

std::string value_of(const SweepRow& row, const std::string& path) {
  for (const auto& [p, value] : row.cell.assignments)
    if (p == path) return value.is_string() ? value.get<std::string>() : json_text(value);
  return kUnknown;
}

bool behind_latents(const SweepTable& table) {
  return std::string_view(table.columns.at(0).key).starts_with("augmented.");
}

// Stars stand around terms.
std::string what_losses_are(const SweepTable& table) {
  const bool some = std::any_of(table.runs.begin(), table.runs.end(),
                                [](const SweepRun& run) { return run.record.has_latents(); });
  return fmt::format(
      "Losses in nats per token at the end of training, mean \u00b1 sample standard deviation over "
      "the seeds. {}*Not told apart*: the means differ by no more than two standard errors.",
      behind_latents(table)
          ? "*Behind latents*: of the tokens behind insertions, as trained. *Base on the same "
            "tokens*: without latents. "
          : fmt::format("*Teacher-forced*: one forward over the whole block. *Prefix-only*: each "
                        "position from its own prefix alone.{} ",
                        some ? " Of a run with latents, these are its base's." : ""));
}

std::string without_stars(std::string text) {
  std::erase(text, '*');
  return text;
}

std::string standing(const SweepTable& table, const SweepRow& row) {
  if (table.best && &row == &table.rows[*table.best]) return "best";
  return row.near_best ? "not told apart from the best" : "";
}

bool seeds_scatter_known(const SweepTable& table) {
  return std::any_of(table.rows.begin(), table.rows.end(),
                     [](const SweepRow& row) { return row.compared().sd.has_value(); });
}

// Validation loss against the one varied number; nullopt where that is not what was varied.
std::optional<LinePlot> value_plot(const SweepTable& table) {
  if (table.axes.size() != 1 || table.rows.size() < 2) return std::nullopt;
  LinePlot plot{"Validation loss", table.axes[0].path, "nats per token"};
  PlotSeries val{table.columns[0].series, "", 0}, beside{table.columns[1].series, "", 1};
  struct Row {
    double x;
    const SweepRow* row;
  };
  std::vector<Row> rows;
  for (const SweepRow& row : table.rows) {
    const Json& value = row.cell.assignments[0].second;
    if (!value.is_number()) return std::nullopt;
    rows.push_back({value.get<double>(), &row});
    if (!row.label.empty()) val.label = beside.label = row.label;
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.x < b.x; });
  plot.log_x = rows[0].x > 0 && rows.back().x >= kLogRange * rows[0].x;
  for (const auto& [x, row] : rows)
    for (auto [series, s] :
         {std::pair{&val, &row->losses[0]}, std::pair{&beside, &row->losses[1]}}) {
      series->mean.push_back({x, s->mean});
      if (s->sd) series->band.push_back({x, s->mean - *s->sd, s->mean + *s->sd});
    }
  plot.series = {val, beside};
  return plot;
}

BarPlot bar_plot(const SweepTable& table) {
  BarPlot plot{"Validation loss", fmt::format("nats per token; filled: {}, outlined: {}",
                                              table.columns[0].series, table.columns[1].series)};
  const auto bar = [](const Statistic& s) { return PlotBar{s.mean, s.sd, format_statistic(s)}; };
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const SweepRow& row = table.rows[i];
    plot.pairs.push_back({row.cell.name, row.label, table.best == i ? 2 : 0, bar(row.losses[0]),
                          bar(row.losses[1])});
  }
  return plot;
}

// Validation loss by step, of the first seed of each combination.
LinePlot curve_plot(const SweepTable& table) {
  std::vector<RunRecord> first;
  for (const SweepRow& row : table.rows)
    for (const SweepRun& run : table.runs)
      if (run.cell == row.cell.name && run.seed == row.seeds[0]) {
        first.push_back(run.record);
        first.back().name = row.cell.name;
      }
  LinePlot plot = value_of_runs(first, "Validation loss by step, first seed", "nats per token",
                                "eval", table.columns[0].key);
  if (plot.series.size() > kMostLines && table.best && *table.best < plot.series.size())
    plot.compared_with = *table.best;
  return plot;
}

std::string table_html(const SweepTable& table) {
  std::string out =
      "<section>\n<h2>Table</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Table\">\n<table>\n<thead><tr>";
  for (const SweepAxis& axis : table.axes)
    out += "<th scope=\"col\" class=\"number\">" + escape_html(axis.name) + "</th>";
  std::vector<const char*> headings;
  for (const SweepColumn& column : table.columns) headings.push_back(column.heading);
  headings.insert(headings.end(), {"parameters", "time a run", "seeds"});
  for (const char* heading : headings)
    out += fmt::format("<th scope=\"col\" class=\"number\">{}</th>", heading);
  out += "<th scope=\"col\">verdict</th><th scope=\"col\"></th></tr></thead>\n<tbody>\n";
  for (const SweepRow& row : table.rows) {
    const std::string mark =
        row.label.empty() ? "" : " <span class=\"leaks\">" + escape_html(row.label) + "</span>";
    const std::string stands = standing(table, row);
    out += stands == "best" ? "<tr class=\"best\">" : "<tr>";
    for (const SweepAxis& axis : table.axes)
      out += "<td class=\"number\">" + escape_html(value_of(row, axis.path)) + "</td>";
    for (const Statistic& s : row.losses)
      out += "<td class=\"number\">" + format_statistic(s) + mark + "</td>";
    out += fmt::format(
        "<td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>"
        "<td>{}</td><td>{}</td></tr>\n",
        format_integer(row.parameters), format_duration(row.seconds), row.seeds.size(),
        row.label.empty() ? "<span class=\"causal\">causal</span>" : mark, stands);
  }
  return out + "</tbody>\n</table>\n</div>\n<p class=\"quiet\">" +
         escape_html(without_stars(what_losses_are(table))) + "</p>\n</section>\n";
}

}  // namespace

std::string explain_sweep(const SweepTable& table) {
  if (table.rows.empty()) return "No run has finished yet.";
  if (!table.comparable)
    return "The losses are of different tokens: some behind latents, by different rules, or some "
           "of "
           "every token. None is called best.";
  if (!table.best) return "No combination has a loss without a label, so none is called best.";
  const SweepRow& best = table.rows[*table.best];
  std::string out = fmt::format("The lowest validation loss{} is {} nats per token, at {}.",
                                behind_latents(table) ? " behind latents" : "",
                                format_statistic(best.compared()), best.cell.name);
  if (!seeds_scatter_known(table))
    return out +
           " One seed each: how far seeds scatter is not known, and so it is not known which "
           "differences would last.";
  std::string near;
  for (const SweepRow& row : table.rows)
    if (row.near_best) near += (near.empty() ? "" : "; ") + row.cell.name;
  if (!near.empty()) out += " These seeds do not tell apart from it: " + near + ".";
  return out;
}

Json sweep_table_json(const SweepTable& table) {
  Json rows = Json::array();
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const SweepRow& row = table.rows[i];
    Json values = Json::object();
    for (const auto& [path, value] : row.cell.assignments) values[path] = value;
    Json measured = Json::object();
    for (size_t c = 0; c < table.columns.size(); ++c)
      measured[table.columns[c].key] = statistic_json(row.losses[c]);
    Json out = {{"name", row.cell.name},
                {"values", values},
                {"measured", measured},
                {"best", table.best == i},
                {"not_told_apart_from_best", row.near_best},
                {"causal", !row.label.starts_with(kLeakLabel)},
                {"parameters", row.parameters},
                {"seconds", row.seconds},
                {"seeds", row.seeds}};
    if (!row.label.empty()) out["label"] = row.label;
    rows.push_back(std::move(out));
  }
  return {{"title", table.title},
          {"rows", rows},
          {"explanation", explain_sweep(table)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs},
          {"provenance", provenance_json(table.provenance)}};
}

std::string sweep_table_markdown(const SweepTable& table, const std::vector<PlotFile>& plots) {
  std::string out =
      "# " + escape_markdown(table.title) + "\n\n" + escape_markdown(explain_sweep(table)) + "\n\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  std::string rule = "|";
  out += "|";
  for (const SweepAxis& axis : table.axes) {
    out += " " + escape_markdown(axis.name) + " |";
    rule += "---:|";
  }
  for (const SweepColumn& column : table.columns) {
    out += fmt::format(" {} |", column.heading);
    rule += "---:|";
  }
  out += " parameters | seeds | verdict | |\n" + rule + "---:|---:|---|---|\n";
  for (const SweepRow& row : table.rows) {
    out += "|";
    for (const SweepAxis& axis : table.axes)
      out += " " + escape_markdown(value_of(row, axis.path)) + " |";
    for (const Statistic& s : row.losses)
      out += " " + format_statistic(s) + (row.label.empty() ? "" : " " + row.label) + " |";
    const std::string stands = standing(table, row);
    out += fmt::format(" {} | {} | {} | {} |\n", format_integer(row.parameters), row.seeds.size(),
                       row.label.empty() ? "causal" : "**" + row.label + "**",
                       stands == "best" ? "**best**" : stands);
  }
  out += "\n" + what_losses_are(table) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

std::vector<PlotFile> sweep_plot_files(const SweepTable& table) {
  const auto by_value = value_plot(table);
  return {{"validation_loss.svg", "Validation loss of every combination",
           by_value ? line_plot_file(*by_value) : bar_plot_file(bar_plot(table))}};
}

std::string sweep_report_html(const SweepTable& table) {
  std::string out = page_begin(table.title, explain_sweep(table));
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  const auto by_value = value_plot(table);
  out += "</header>\n" + table_html(table) + "<section>\n<h2>Plots</h2>\n" +
         (by_value ? line_figure(*by_value) : bar_figure(bar_plot(table))) +
         line_figure(curve_plot(table)) +
         "<p class=\"quiet\">Band and whisker: one sample standard deviation of the seeds. Point "
         "at a line for its values.</p>\n</section>\n";
  return out + page_end(table.notes, table.provenance);
}

}  // namespace reverie
