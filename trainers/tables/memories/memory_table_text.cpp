// The table of memories as JSON, CSV, Markdown, and in sentences.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "trainers/reports/markdown.h"
#include "trainers/tables/memories/memory_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

Json statistic_json(const Statistic& s) {
  if (s.n == 0) return {};
  return {{"mean", number_or_null(s.mean)}, {"sd", s.sd ? Json(*s.sd) : Json()}, {"n", s.n}};
}

Json figures_json(const MemoryFigures& f, bool is_text) {
  Json out = {{"carried", statistic_json(f.carried)},
              {"wiped", statistic_json(f.wiped)},
              {"swapped", statistic_json(f.swapped)}};
  if (is_text) return out;
  out["chance"] = f.chance;
  out["answers"] = f.answers;
  return out;
}

Json row_json(const MemoryRow& row) {
  Json measured = Json::object();
  if (row.text) measured["bits_per_character"] = figures_json(*row.text, true);
  if (row.beyond) measured["right_beyond_one_window"] = figures_json(*row.beyond, false);
  for (const MemoryDistance& d : row.distances) {
    Json figures = figures_json(d.right, false);
    figures["distance"] = d.distance;
    measured["right_by_distance"].push_back(std::move(figures));
  }
  Json out = {{"model", row.model},
              {"title", row.title},
              {"task", row.task},
              {"seeds", row.seeds},
              {"measured", std::move(measured)},
              {"parameters", row.parameters},
              {"flops_per_token", row.flops_per_token},
              {"milliseconds_per_token", statistic_json(row.milliseconds_per_token)},
              {"state_bytes", row.state_bytes},
              {"verdict", verdict_word(row.verdict)}};
  if (!row.verdict.label().empty()) out["label"] = row.verdict.label();
  return out;
}

Json sanity_json(const MemoryTable& table) {
  Json out = Json::array();
  for (const MemorySanity& s : table.sanity()) {
    Json json = {{"task", s.task},
                 {"oracle", number_or_null(s.oracle)},
                 {"baseline", number_or_null(s.baseline)}};
    if (s.known()) {
      json["low"] = s.low;
      json["high"] = s.high;
      json["chance"] = s.chance;
      json["oracle_holds"] = s.oracle_holds();
      json["baseline_holds"] = s.baseline_holds();
    }
    json["sentence"] = s.sentence(table.title_of(table.oracle), table.title_of(table.baseline));
    out.push_back(std::move(json));
  }
  return out;
}

std::string first_table(const MemoryTable& table) {
  std::string out = "| model |", rule = "|---|";
  for (const std::string& task : table.tasks) {
    out += " " + escape_markdown(task) + " |";
    rule += "---:|";
  }
  out += " parameters | FLOPs a token | ms a token | bytes of state | verdict |\n" + rule +
         "---:|---:|---:|---:|---|\n";
  for (const MemoryOverview& line : memory_overview(table)) {
    out += "| " + escape_markdown(line.model->title) + " |";
    for (const MemoryRow* row : line.rows)
      out += row ? " " + memory_figure(row->figures().carried, row->text.has_value()) +
                       row->verdict.mark() + " |"
                 : fmt::format(" {} |", kUnknown);
    const std::string verdict = verdict_word(line.verdict);
    out +=
        fmt::format(" {} | {} | {} | {} | {} |\n", line.parameters, line.flops, line.milliseconds,
                    line.state, line.verdict.leaks() ? "**" + verdict + "**" : verdict);
  }
  return out;
}

void add_markdown_cells(std::string& out, const MemoryFigures& f, bool is_text,
                        const std::string& mark) {
  for (const Statistic* s : {&f.carried, &f.wiped, &f.swapped})
    out += " " + memory_figure(*s, is_text) + (s->n > 0 ? mark : "") + " |";
}

std::string task_table(const MemoryTable& table, const std::string& task) {
  const auto rows = table.of_task(task);
  const bool is_text = rows[0]->text.has_value();
  std::string out = fmt::format("\n## {}\n\n", escape_markdown(task)), rule = "|---|";
  std::string head = "| model |";
  const auto add = [&](const std::string& what) {
    head += fmt::format(" {} | wiped | swapped |", what);
    rule += "---:|---:|---:|";
  };
  if (is_text) {
    out += "Bits for each character of the validation text.\n\n";
    add("carried");
  } else {
    out += fmt::format("Right answers; chance is {:.1f} % beyond one window, over {} answers.\n\n",
                       100 * rows[0]->beyond->chance, rows[0]->beyond->answers);
    for (const MemoryDistance& d : rows[0]->distances)
      add(fmt::format("{} {} before", d.distance, d.distance == 1 ? "window" : "windows"));
  }
  out += head + " parameters | seeds | verdict |\n" + rule + "---:|---:|---|\n";
  for (const MemoryRow* row : rows) {
    const std::string mark = row->verdict.mark();
    out += "| " + escape_markdown(row->title) + " |";
    if (is_text) add_markdown_cells(out, *row->text, true, mark);
    for (const MemoryDistance& d : row->distances) add_markdown_cells(out, d.right, false, mark);
    out += fmt::format(" {} | {} | {} |\n", format_integer(row->parameters), row->seeds.size(),
                       verdict_word(row->verdict));
  }
  return out;
}

std::string csv_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : std::string();
}

}  // namespace

std::string memory_figure(const Statistic& s, bool is_text) {
  if (s.n == 0) return kUnknown;
  if (is_text) return format_statistic(s);
  return s.sd ? fmt::format("{:.1f} \u00b1 {:.1f} %", 100 * s.mean, 100 * *s.sd)
              : fmt::format("{:.1f} %", 100 * s.mean);
}

std::string span_of(const std::vector<double>& values, int decimals) {
  const auto text = [&](double value) {
    return decimals > 0 ? fmt::format("{:.{}f}", value, decimals)
                        : format_integer(int64_t(std::llround(value)));
  };
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const std::string first = text(*low), last = text(*high);
  return first == last ? first : first + " to " + last;
}

std::string explain_memories(const MemoryTable& table) {
  if (table.rows.empty()) return "No run has finished yet.";
  for (const std::string& task : table.tasks) {
    const MemoryRow* best = nullptr;
    for (const MemoryRow* row : table.of_task(task))
      if (row->beyond && row->beyond->wiped.n > 0 && !row->verdict.leaks() &&
          (!best || row->beyond->carried.mean > best->beyond->carried.mean))
        best = row;
    if (best)
      return fmt::format(
          "On {}, {} answers {} of the questions rightly whose facts lie beyond its window; with "
          "its memory wiped {}, with another text's {}; chance is {:.1f} %.",
          task, best->title, memory_figure(best->beyond->carried, false),
          memory_figure(best->beyond->wiped, false), memory_figure(best->beyond->swapped, false),
          100 * best->beyond->chance);
  }
  return "No causal model with a memory that is carried has finished on a generated task yet.";
}

std::vector<std::string> sanity_sentences(const MemoryTable& table) {
  std::vector<std::string> out;
  for (const MemorySanity& s : table.sanity())
    out.push_back(s.sentence(table.title_of(table.oracle), table.title_of(table.baseline)));
  return out;
}

Json memory_table_json(const MemoryTable& table) {
  Json rows = Json::array();
  for (const MemoryRow& row : table.rows) rows.push_back(row_json(row));
  return {{"title", table.title},
          {"explanation", explain_memories(table)},
          {"sanity", sanity_json(table)},
          {"baseline", table.baseline},
          {"oracle", table.oracle},
          {"rows", std::move(rows)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs},
          {"provenance", provenance_json(table.provenance)}};
}

std::string memory_table_csv(const MemoryTable& table) {
  std::string out = "model,task,distance,memory,unit,mean,sd,seeds,chance,verdict\n";
  for (const MemoryRow& row : table.rows) {
    const auto add = [&](const std::string& distance, const MemoryFigures& f, const char* unit) {
      for (const auto& [name, s] : {std::pair{"carried", &f.carried}, std::pair{"wiped", &f.wiped},
                                    std::pair{"swapped", &f.swapped}})
        if (s->n > 0)
          out += fmt::format("{},{},{},{},{},{},{},{},{},{}\n", row.model, row.task, distance, name,
                             unit, csv_number(s->mean), s->sd ? csv_number(*s->sd) : "", s->n,
                             row.text ? "" : csv_number(f.chance), verdict_word(row.verdict));
    };
    for (const MemoryDistance& d : row.distances)
      add(std::to_string(d.distance), d.right, "share right");
    if (row.text) add("", *row.text, "bits per character");
  }
  return out;
}

std::string memory_table_markdown(const MemoryTable& table, const std::vector<PlotFile>& plots) {
  std::string out = "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) +
                    "\n\n" + escape_markdown(explain_memories(table)) + "\n\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  for (const std::string& sentence : sanity_sentences(table))
    out += "* " + escape_markdown(sentence) + "\n";
  out += "\n" + first_table(table);
  out +=
      "\nRight answers beyond one window (bits for each character of a text), memory carried: mean "
      "\u00b1 sample standard deviation over the seeds. FLOPs and milliseconds: one forward over a "
      "window, without training; milliseconds depend on what else the machine did. Bytes of state: "
      "what one text carries from window to window. LEAKS: the model sees tokens that it is to "
      "predict, so its figures say nothing of memory.\n";
  for (const std::string& task : table.tasks) out += task_table(table, task);
  out +=
      "\n*Wiped*: every window begins with a clean memory. *Swapped*: with what another text had "
      "carried to the same window. An en dash: the model carries nothing.\n";
  for (const MemoryOverview& line : memory_overview(table))
    if (const TableModel& m = *line.model; !m.description.empty())
      out += fmt::format("\n* {}: {}", escape_markdown(m.title), escape_markdown(m.description));
  out += "\n";
  if (!table.citation.empty()) out += "\nPaper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

}  // namespace reverie
