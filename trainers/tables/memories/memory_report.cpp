// The table of memories as a page, and its plots: right answers by distance, a panel for each model.

#include <fmt/format.h>

#include <algorithm>

#include "trainers/reports/page.h"
#include "trainers/tables/memories/memory_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/html.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

constexpr int kColumns = 2;  // of a plot's file: 2 panels take 400 units

std::string leak_mark(const Verdict& verdict) {
  return !verdict.label().empty()
             ? " <span class=\"leaks\">" + escape_html(verdict.label()) + "</span>"
             : "";
}

std::string verdict_cell(const Verdict& verdict) {
  const std::string word = verdict_word(verdict);
  return "<td>" +
         (word == "causal"  ? "<span class=\"causal\">causal</span>"
          : verdict.leaks() ? leak_mark(verdict)
                            : word) +
         "</td>";
}

PlotSeries series_of(const MemoryRow& row, const char* suffix, int color,
                     Statistic MemoryFigures::*figure) {
  PlotSeries series{row.title + suffix, row.verdict.label(), color};
  for (const MemoryDistance& d : row.distances) {
    const Statistic& s = d.right.*figure;
    if (s.n == 0) continue;
    const auto x = double(d.distance);
    series.mean.push_back({x, 100 * s.mean});
    if (s.sd)
      series.band.push_back(
          {x, std::max(0.0, 100 * (s.mean - *s.sd)), std::min(100.0, 100 * (s.mean + *s.sd))});
  }
  return series;
}

// Right answers of one task by their distance: a panel for each model, with its memory wiped beside
// it, and the oracle in grey.
LinePlot distance_plot(const MemoryTable& table, const std::string& task) {
  LinePlot plot{task, "windows back", "right (%)"};
  plot.reached_y = {0, 100};  // differences within noise look small
  plot.whole_x = true;
  plot.dashed = fmt::format("memory wiped, or {}", kLeakLabel);
  const auto rows = table.of_task(task);
  for (const MemoryRow* row : rows) {
    if (row->model == table.oracle) plot.compared_with = plot.series.size();
    const size_t own = plot.series.size();
    plot.series.push_back(series_of(*row, "", 0, &MemoryFigures::carried));
    PlotSeries wiped = series_of(*row, ", wiped", 1, &MemoryFigures::wiped);
    if (wiped.mean.empty()) continue;
    wiped.dashed = true;
    wiped.panel_of = own;
    plot.series.push_back(std::move(wiped));
  }
  if (!rows.empty() && rows[0]->beyond)
    plot.reference = PlotReference{100 * rows[0]->beyond->chance,
                                   fmt::format("chance, {:.1f} %", 100 * rows[0]->beyond->chance)};
  return plot;
}

bool is_generated(const MemoryTable& table, const std::string& task) {
  return !table.of_task(task)[0]->text;
}

std::string begin_table(const std::string& heading) {
  return "<section>\n<h2>" + escape_html(heading) +
         "</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" +
         escape_html(heading) +
         "\">\n<table>\n<thead><tr><th scope=\"col\" class=\"model\">model</th>";
}
std::string number_heading(const std::string& text) {
  return "<th scope=\"col\" class=\"number\">" + escape_html(text) + "</th>";
}
std::string number_cell(const std::string& text, const std::string& mark = "") {
  return "<td class=\"number\">" + escape_html(text) + mark + "</td>";
}

std::string overview_section(const MemoryTable& table) {
  std::string out = begin_table("Table");
  for (const std::string& task : table.tasks) out += number_heading(task);
  for (const char* heading : {"parameters", "FLOPs a token", "ms a token", "bytes of state"})
    out += number_heading(heading);
  out += "<th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n";
  for (const MemoryOverview& line : memory_overview(table)) {
    out += fmt::format("<tr><th scope=\"row\" class=\"model\">{}</th>",
                       escape_html(line.model->title));
    for (const MemoryRow* row : line.rows)
      out += row ? number_cell(memory_figure(row->figures().carried, row->text.has_value()),
                               leak_mark(row->verdict))
                 : number_cell(kUnknown);
    for (const std::string* text : {&line.parameters, &line.flops, &line.milliseconds, &line.state})
      out += number_cell(*text);
    out += verdict_cell(line.verdict) + "</tr>\n";
  }
  return out +
         "</tbody>\n</table>\n</div>\n<p class=\"quiet\">Right answers beyond one window (bits for "
         "each character of a text), memory carried: mean \u00b1 sample standard deviation over "
         "the seeds. FLOPs and milliseconds: one forward over a window, without training; "
         "milliseconds depend on what else the machine did. Bytes of state: what one text carries "
         "from window to window.</p>\n</section>\n";
}

void add_html_cells(std::string& out, const MemoryFigures& f, bool is_text,
                    const std::string& mark) {
  for (const Statistic* s : {&f.carried, &f.wiped, &f.swapped})
    out += number_cell(memory_figure(*s, is_text), s->n > 0 ? mark : "");
}

std::string task_section(const MemoryTable& table, const std::string& task) {
  const auto rows = table.of_task(task);
  const bool is_text = rows[0]->text.has_value();
  std::string out = begin_table(task);
  const auto add = [&](const std::string& what) {
    out += number_heading(what) + number_heading("wiped") + number_heading("swapped");
  };
  if (is_text) add("carried, bits a character");
  for (const MemoryDistance& d : rows[0]->distances)
    add(fmt::format("{} {} before", d.distance, d.distance == 1 ? "window" : "windows"));
  out += number_heading("parameters") + number_heading("seeds") +
         "<th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n";
  for (const MemoryRow* row : rows) {
    const std::string mark = leak_mark(row->verdict);
    out += fmt::format("<tr><th scope=\"row\" class=\"model\">{}</th>", escape_html(row->title));
    if (is_text) add_html_cells(out, *row->text, true, mark);
    for (const MemoryDistance& d : row->distances) add_html_cells(out, d.right, false, mark);
    out += number_cell(format_integer(row->parameters)) +
           number_cell(std::to_string(row->seeds.size())) + verdict_cell(row->verdict) + "</tr>\n";
  }
  out +=
      "</tbody>\n</table>\n</div>\n<p class=\"quiet\">Wiped: every window begins with a clean "
      "memory. Swapped: with what another text had carried to the same window. An en dash: the "
      "model carries nothing.";
  if (!is_text)
    out += fmt::format(" Chance is {:.1f} % beyond one window, over {} answers of each run.",
                       100 * rows[0]->beyond->chance, rows[0]->beyond->answers);
  out += "</p>\n";
  if (!is_text)
    out += line_figure(distance_plot(table, task)) +
           "<p class=\"quiet\">Dashed: the same model with its memory wiped, or one that leaks. "
           "Band: one sample standard deviation over the seeds.</p>\n";
  return out + "</section>\n";
}

std::string model_list(const MemoryTable& table) {
  std::string out;
  for (const MemoryOverview& line : memory_overview(table))
    if (const TableModel& m = *line.model; !m.description.empty())
      out += "<li><b>" + escape_html(m.title) + "</b>: " + escape_html(m.description) + "</li>\n";
  return out.empty()
             ? ""
             : "<section>\n<h2>Models</h2>\n<ul class=\"notes\">\n" + out + "</ul>\n</section>\n";
}

}  // namespace

std::vector<PlotFile> memory_plot_files(const MemoryTable& table) {
  std::vector<PlotFile> files;
  for (const std::string& task : table.tasks)
    if (is_generated(table, task))
      files.push_back({task + ".svg",
                       fmt::format("Right answers on {} by distance in windows", task),
                       line_plot_file(distance_plot(table, task), kColumns)});
  std::erase_if(files, [](const PlotFile& file) { return file.svg.empty(); });
  return files;
}

std::string memory_report_html(const MemoryTable& table) {
  std::string out =
      page_begin(title_of_table(table.title, table.provenance.preset), explain_memories(table));
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  for (const MemorySanity& s : table.sanity())
    out += fmt::format(
        "<p class=\"notice{}\">{}</p>\n",
        s.known() && s.oracle_holds() && s.baseline_holds() ? "" : " warning",
        escape_html(s.sentence(table.title_of(table.oracle), table.title_of(table.baseline))));
  out += "</header>\n";
  if (!table.rows.empty()) out += overview_section(table);
  for (const std::string& task : table.tasks) out += task_section(table, task);
  return out + model_list(table) + page_end(table.notes, table.provenance);
}

}  // namespace reverie
