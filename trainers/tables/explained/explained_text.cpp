// The table of decoders as JSON, CSV, Markdown and a page.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "trainers/reports/markdown.h"
#include "trainers/reports/page.h"
#include "trainers/tables/explained/explained_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

constexpr const char* kLegend =
    "Exact: facts (of a recount: words) that the decoder writes by itself, likeliest word after "
    "likeliest word, as they should be at their place. Tokens: words that are the likeliest behind "
    "the true ones before them. Perplexity: of these words. Whole: records of which everything is "
    "exact. Mean \u00b1 sample standard deviation over the seeds of the decoder; all on held-out "
    "texts of one base. Swapped: the decoder gets another text's memory. Wiped: it gets the memory "
    "of no text.";

std::string title_of(const ExplainedRow& row) {
  return row.memory == "own" ? row.title : row.title + ", " + row.memory;
}
std::string figures_title(const ExplainedRow& row) {
  return row.facts ? "exact facts" : "exact words";
}

Json statistic_json(const Statistic& s) {
  return {{"mean", number_or_null(s.mean)}, {"sd", s.sd ? Json(*s.sd) : Json()}, {"n", s.n}};
}
const char* word_of(ExplainedFinding::Holds holds) {
  switch (holds) {
    case ExplainedFinding::Holds::nothing:
      return "nothing";
    case ExplainedFinding::Holds::something:
      return "no_more_than_final_state";
    case ExplainedFinding::Holds::more_than_final_state:
      return "more_than_controls";
    case ExplainedFinding::Holds::unknown:
      break;
  }
  return "unknown";
}

BarPlot plot_of(const ExplainedTable& table, const std::string& use) {
  const auto rows = table.of_use(use);
  BarPlot plot{fmt::format("{}: {}", use, figures_title(*rows[0])),
               "per cent; filled: its own text's, outlined: another text's"};
  const auto bar = [](const ExplainedRow& row) {
    const Statistic& s = row.exact;
    return PlotBar{100 * s.mean, s.sd ? std::optional(100 * *s.sd) : std::nullopt, percent_text(s)};
  };
  for (const ExplainedRow* row : rows) {
    if (row->memory == "own") {
      plot.pairs.push_back(
          {row->title, row->verdict.label(), int(plot.pairs.size()), bar(*row), {}});
    } else if (row->memory == "swapped" && !plot.pairs.empty()) {
      plot.pairs.back().outlined = bar(*row);
    }
  }
  return plot;
}

std::string lead(const ExplainedTable& table) {
  return table.findings.empty() ? "No decoder that reads a memory has finished yet."
                                : table.findings[0].sentence;
}

}  // namespace

std::string percent_text(const Statistic& s) {
  if (s.n == 0) return kUnknown;
  return s.sd ? fmt::format("{:.1f} \u00b1 {:.1f} %", 100 * s.mean, 100 * *s.sd)
              : fmt::format("{:.1f} %", 100 * s.mean);
}

Json explained_table_json(const ExplainedTable& table) {
  Json rows = Json::array(), findings = Json::array();
  for (const ExplainedRow& row : table.rows) {
    Json out = {{"model", row.model},
                {"title", row.title},
                {"use", row.use},
                {"reads", row.reads},
                {"memory", row.memory},
                {"pieces_are", row.facts ? "facts" : "words"},
                {"exact", statistic_json(row.exact)},
                {"tokens_right", statistic_json(row.right)},
                {"whole_records", statistic_json(row.whole)},
                {"loss", statistic_json(row.loss)},
                {"perplexity", number_or_null(row.perplexity())},
                {"records", row.records},
                {"pieces", row.pieces},
                {"seeds", row.seeds},
                {"verdict", verdict_word(row.verdict)}};
    if (!row.verdict.label().empty()) out["label"] = row.verdict.label();
    rows.push_back(std::move(out));
  }
  for (const ExplainedFinding& f : table.findings) {
    Json controls = Json::object();
    for (const auto& c : f.controls) controls[c.name] = c.change.json();
    findings.push_back({{"model", f.model},
                        {"use", f.use},
                        {"memory_holds", word_of(f.holds)},
                        {"controls", controls},
                        {"sentence", f.sentence}});
  }
  return {{"title", table.title},
          {"findings", std::move(findings)},
          {"rows", std::move(rows)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs},
          {"provenance", provenance_json(table.provenance)}};
}

std::string explained_table_csv(const ExplainedTable& table) {
  std::string out =
      "model,use,memory,exact,exact_sd,tokens_right,whole_records,loss,loss_sd,perplexity,seeds,"
      "verdict\n";
  const auto sd = [](const Statistic& s) { return s.sd ? fmt::format("{:.6g}", *s.sd) : ""; };
  for (const ExplainedRow& r : table.rows)
    out += fmt::format("{},{},{},{:.6g},{},{:.6g},{:.6g},{:.6g},{},{:.6g},{},{}\n", r.model, r.use,
                       r.memory, r.exact.mean, sd(r.exact), r.right.mean, r.whole.mean, r.loss.mean,
                       sd(r.loss), r.perplexity(), r.seeds, verdict_word(r.verdict));
  return out;
}

std::vector<PlotFile> explained_plot_files(const ExplainedTable& table) {
  std::vector<PlotFile> files;
  for (const std::string& use : table.uses)
    files.push_back({use + ".svg",
                     fmt::format("{}: what is written exactly, by what the decoder reads", use),
                     bar_plot_file(plot_of(table, use))});
  return files;
}

std::string explained_table_markdown(const ExplainedTable& table,
                                     const std::vector<PlotFile>& plots) {
  std::string out =
      "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) + "\n\n";
  if (table.findings.empty()) out += escape_markdown(lead(table)) + "\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  for (const std::string& use : table.uses) {
    const auto rows = table.of_use(use);
    out += fmt::format("## {}\n\n", escape_markdown(use));
    for (const ExplainedFinding& f : table.findings)
      if (f.use == use) out += escape_markdown(f.sentence) + "\n\n";
    out += fmt::format(
        "| what the decoder reads | {} | tokens | perplexity | whole | seeds | verdict |\n"
        "|---|---:|---:|---:|---:|---:|---|\n",
        figures_title(*rows[0]));
    for (const ExplainedRow* r : rows) {
      const std::string mark = r->verdict.mark();
      out += fmt::format("| {} | {}{} | {}{} | {:.3f}{} | {}{} | {} | {} |\n",
                         escape_markdown(title_of(*r)), percent_text(r->exact), mark,
                         percent_text(r->right), mark, r->perplexity(), mark,
                         percent_text(r->whole), mark, r->seeds, verdict_word(r->verdict));
    }
    out += fmt::format("\n{} records, {} {}.\n\n", rows[0]->records, rows[0]->pieces,
                       rows[0]->facts ? "facts" : "words");
  }
  out += std::string(kLegend) + "\n";
  for (const TableModel& m : table.models)
    if (!m.description.empty())
      out += fmt::format("\n* {}: {}", escape_markdown(m.title), escape_markdown(m.description));
  out += "\n";
  if (!table.citation.empty()) out += "\nPaper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

std::string explained_report_html(const ExplainedTable& table) {
  std::string out = page_begin(title_of_table(table.title, table.provenance.preset), lead(table));
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  out += "</header>\n";
  for (const std::string& use : table.uses) {
    const auto rows = table.of_use(use);
    const std::string name = escape_html(use);
    out += "<section>\n<h2>" + name + "</h2>\n";
    for (const ExplainedFinding& f : table.findings)
      if (f.use == use) out += "<p>" + escape_html(f.sentence) + "</p>\n";
    out += "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" + name +
           "\">\n<table>\n<thead><tr><th scope=\"col\" class=\"model\">what the decoder reads</th>";
    for (const std::string& heading :
         {figures_title(*rows[0]), std::string("tokens"), std::string("perplexity"),
          std::string("whole"), std::string("seeds")})
      out += "<th scope=\"col\" class=\"number\">" + heading + "</th>";
    out += "<th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n";
    for (const ExplainedRow* r : rows) {
      const std::string mark =
          !r->verdict.label().empty()
              ? " <span class=\"leaks\">" + escape_html(r->verdict.label()) + "</span>"
              : "";
      out += "<tr><th scope=\"row\" class=\"model\">" + escape_html(title_of(*r)) + "</th>";
      for (const std::string& figure :
           {percent_text(r->exact), percent_text(r->right), fmt::format("{:.3f}", r->perplexity()),
            percent_text(r->whole)})
        out += "<td class=\"number\">" + escape_html(figure) + mark + "</td>";
      out += fmt::format("<td class=\"number\">{}</td><td>{}</td></tr>\n", r->seeds,
                         escape_html(verdict_word(r->verdict)));
    }
    out += fmt::format(
        "</tbody>\n</table>\n</div>\n<p class=\"quiet\">{} records, {} {}.</p>\n{}</section>\n",
        rows[0]->records, rows[0]->pieces, rows[0]->facts ? "facts" : "words",
        bar_figure(plot_of(table, use)));
  }
  out += std::string("<section>\n<p class=\"quiet\">") + kLegend + "</p>\n</section>\n";
  return out + page_end(table.notes, table.provenance);
}

}  // namespace reverie
