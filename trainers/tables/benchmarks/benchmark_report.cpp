// The table of benchmarks as a page, and its plots: right answers by the number of latents, and, for
// tables without numbers to compare, a bar for each model.

#include <fmt/format.h>

#include <algorithm>

#include "trainers/reports/page.h"
#include "trainers/tables/benchmarks/benchmark_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

std::string benchmark_mark(const BenchmarkRow& row) {
  return !row.verdict.label().empty()
             ? " <span class=\"leaks\">" + escape_html(row.verdict.label()) + "</span>"
             : "";
}

std::string number_column(const char* text) {
  return fmt::format("<th scope=\"col\" class=\"number\">{}</th>", escape_html(text));
}
std::string number_in_cell(const std::string& text, const std::string& mark = "") {
  return "<td class=\"number\">" + escape_html(text) + mark + "</td>";
}

// Bars: right answers (filled), and those with the latents of other items where there are such.
BarPlot accuracy_plot(const BenchmarkTable& table, const std::string& task) {
  BarPlot plot{task, "right answers (%)"};
  const auto bar = [](const BenchmarkRow& row) {
    PlotBar out{100 * row.accuracy.mean, std::nullopt, accuracy_text(row)};
    if (row.accuracy.sd) out.sd = 100 * *row.accuracy.sd;
    return out;
  };
  const auto rows = table.of_task(task);
  for (const BenchmarkRow* row : rows) {
    if (row->cell.shuffled) continue;
    BarPair pair;
    pair.title = row->title;
    pair.label = row->verdict.label();
    pair.color = table.roles.compared.find(row->cell.model) ? 1 : 0;
    pair.filled = bar(*row);
    for (const BenchmarkRow* other : rows)
      if (other->cell.shuffled && other->cell.model == row->cell.model &&
          other->cell.latents == row->cell.latents &&
          other->cell.latents_every == row->cell.latents_every)
        pair.outlined = bar(*other);
    plot.pairs.push_back(std::move(pair));
  }
  if (!rows.empty() && std::isfinite(rows[0]->chance))
    plot.reference = PlotReference{100 * rows[0]->chance,
                                   fmt::format("chance, {:.1f} %", 100 * rows[0]->chance)};
  return plot;
}

std::string benchmark_section(const BenchmarkTable& table, const std::string& task) {
  const std::string heading = escape_html(task);
  std::string out = "<section>\n<h2>" + heading +
                    "</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" +
                    heading +
                    "\">\n<table>\n<thead><tr><th scope=\"col\" class=\"model\">model</th>";
  for (const char* column : {"items", "chance", "right", "to the base, points (95 %)",
                             "McNemar's p", "tokens written", "ms an item", "seeds"})
    out += number_column(column);
  out += "<th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n";
  for (const BenchmarkRow* row : table.of_task(task)) {
    const auto& c = row->against_base;
    const std::string word = verdict_word(row->verdict), mark = benchmark_mark(*row);
    const std::string limited =
        row->items < row->all_items ? fmt::format(" of {}, LIMITED", row->all_items) : "";
    out += fmt::format("<tr><th scope=\"row\" class=\"model\">{}</th>", escape_html(row->title)) +
           number_in_cell(std::to_string(row->items) + limited) +
           number_in_cell(std::isfinite(row->chance) ? fmt::format("{:.1f} %", 100 * row->chance)
                                                     : kUnknown) +
           number_in_cell(accuracy_text(*row)) +
           number_in_cell(c ? points_text(*c) : kUnknown, c ? mark : "") +
           number_in_cell(c ? p_text(c->p) : kUnknown) +
           number_in_cell(figure_text(row->tokens, 1)) +
           number_in_cell(figure_text(row->milliseconds, 2)) +
           number_in_cell(row->trained ? std::to_string(row->seeds.size()) : kUnknown) + "<td>" +
           (word == "causal"       ? "<span class=\"causal\">causal</span>"
            : row->verdict.leaks() ? mark
                                   : word) +
           "</td></tr>\n";
  }
  for (const BenchmarkGap* gap : table.gaps_of_task(task)) {
    out += fmt::format("<tr><th scope=\"row\" class=\"model\">{}</th>", escape_html(gap->title)) +
           number_in_cell(kUnknown) + number_in_cell(kUnknown) + number_in_cell(kNoData);
    for (int column = 0; column < 5; ++column) out += number_in_cell(kUnknown);
    out += "<td></td></tr>\n";
  }
  out += "</tbody>\n</table>\n</div>\n";
  if (table.of_task(task).empty()) return out + "</section>\n";
  return out + bar_figure(accuracy_plot(table, task)) +
         "<p class=\"quiet\">Right answers: mean \u00b1 sample standard deviation over the seeds. "
         "Outlined bars: with the latents of other items. Differences are paired, item by item; "
         "milliseconds depend on what else the machine did.</p>\n</section>\n";
}

}  // namespace

std::vector<PlotFile> benchmark_plot_files(const BenchmarkTable& table) {
  std::vector<PlotFile> files;
  for (const std::string& task : shown_tasks(table))
    files.push_back(
        {task + ".svg", "Right answers on " + task, bar_plot_file(accuracy_plot(table, task))});
  std::erase_if(files, [](const PlotFile& file) { return file.svg.empty(); });
  return files;
}

std::string benchmark_report_html(const BenchmarkTable& table) {
  std::string out =
      page_begin(title_of_table(table.title, table.provenance.preset), explain_benchmarks(table));
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  out += "</header>\n";
  std::string list;
  for (const std::string& sentence : benchmark_sentences(table))
    list += "<li>" + escape_html(sentence) + "</li>\n";
  if (!list.empty())
    out += "<section>\n<h2>Do latents help, and against what?</h2>\n<ul class=\"notes\">\n" + list +
           "</ul>\n</section>\n";
  for (const std::string& task : shown_tasks(table)) out += benchmark_section(table, task);
  std::string models;
  for (const TableModel& m : table.models)
    if (!m.description.empty())
      models +=
          "<li><b>" + escape_html(m.title) + "</b>: " + escape_html(m.description) + "</li>\n";
  if (!models.empty())
    out += "<section>\n<h2>Models</h2>\n<ul class=\"notes\">\n" + models + "</ul>\n</section>\n";
  return out + page_end(table.notes, table.provenance);
}

}  // namespace reverie
