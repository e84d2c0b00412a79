#include "trainers/tables/reasoning/reasoning_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "trainers/reports/markdown.h"
#include "trainers/reports/numbers.h"
#include "trainers/tables/verdict_word.h"

namespace reverie {
namespace {

constexpr const char* kFirstStage = "Chain of thought (stage 0)";

void add(AnswerAccuracy& all, const AnswerAccuracy& more) {
  const auto examples = double(all.examples + more.examples);
  if (examples > 0)
    all.written =
        (all.written * double(all.examples) + more.written * double(more.examples)) / examples;
  all.examples += more.examples;
  all.right += more.right;
}

Json json_of(const AnswerAccuracy& a) {
  return {{"accuracy", a.share()},
          {"right", a.right},
          {"of", a.examples},
          {"tokens_written", a.written}};
}

std::string cell(const AnswerAccuracy& a) {
  return fmt::format("{:.1f} % ({} of {})", 100 * a.share(), a.right, a.examples);
}

}  // namespace

ReasoningTable build_reasoning_table(const TableReport& report, const TableHeading& heading,
                                     const std::vector<ReasoningRun>& runs, Provenance provenance) {
  ReasoningTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.notes = report.notes;
  table.models = report.table_models();
  table.planned_runs = heading.planned_runs;
  table.provenance = std::move(provenance);
  table.provenance.preset = heading.preset;
  table.provenance.command = heading.command;

  const auto order = [&](const std::string& model) {
    const auto at = std::find_if(table.models.begin(), table.models.end(),
                                 [&](const TableModel& m) { return m.name == model; });
    return model.empty() ? -1 : at - table.models.begin();
  };
  for (const ReasoningRun& run : runs) {
    auto line = std::find_if(table.lines.begin(), table.lines.end(), [&](const ReasoningLine& l) {
      return l.model == run.model && l.stage == run.stage;
    });
    if (line == table.lines.end()) {
      std::string title = run.model.empty() ? kFirstStage : run.model;
      for (const TableModel& m : table.models)
        if (m.name == run.model) title = m.title;
      line = table.lines.insert(line, {run.model, title, run.stage, {}, {}, {}, {}});
    }
    require(std::find(line->seeds.begin(), line->seeds.end(), run.seed) == line->seeds.end(),
            "two runs of {} at stage {} have seed {}", run.model, run.stage, run.seed);
    if (!run.model.empty()) {
      line->seeds.push_back(run.seed);
      ++table.finished_runs;
    }
    line->verdict.merge(Verdict::of_file(run.summary));
    add(line->held_out, run.held_out);
    add(line->train, run.train);
    table.provenance.add_run(run.summary, run.directory);
  }
  std::stable_sort(table.lines.begin(), table.lines.end(),
                   [&](const ReasoningLine& a, const ReasoningLine& b) {
                     return std::pair(order(a.model), a.stage) < std::pair(order(b.model), b.stage);
                   });
  return table;
}

Json reasoning_table_json(const ReasoningTable& table) {
  Json rows = Json::array();
  for (const ReasoningLine& line : table.lines) {
    rows.push_back(
        {{"model", line.model.empty() ? Json() : Json(line.model)},
         {"stage", line.stage},
         {"seeds", line.seeds},
         {"measured", {{"held_out", json_of(line.held_out)}, {"train", json_of(line.train)}}},
         {"verdict", verdict_word(line.verdict)}});
    if (!line.verdict.label().empty()) rows.back()["label"] = line.verdict.label();
  }
  return {{"title", table.title},
          {"rows", rows},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs},
          {"provenance", provenance_json(table.provenance)}};
}

std::string reasoning_table_markdown(const ReasoningTable& table) {
  std::string out =
      "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) + "\n\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  out +=
      "| model | stage | held-out answers | training answers | tokens written | seeds | verdict |\n"
      "|---|---:|---:|---:|---:|---:|---|\n";
  for (const ReasoningLine& line : table.lines)
    out += fmt::format("| {} | {} | {} | {} | {:.1f} | {} | {} |\n", escape_markdown(line.title),
                       line.stage, cell(line.held_out) + line.verdict.mark(),
                       cell(line.train) + line.verdict.mark(), line.held_out.written,
                       std::max<size_t>(1, line.seeds.size()), verdict_word(line.verdict));
  out +=
      "\nAnswers are generated greedily, and count as correct if all their tokens are the "
      "example's. Seeds are pooled. *Tokens written*: mean number of tokens behind the thoughts, "
      "over the held-out examples.\n";
  for (const TableModel& m : table.models)
    out += fmt::format("\n* {}: {}", escape_markdown(m.title), escape_markdown(m.description));
  out += "\n";
  if (!table.citation.empty()) out += "\nPaper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_notes(table.notes, table.provenance);
}

}  // namespace reverie
