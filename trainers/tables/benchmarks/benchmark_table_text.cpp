// The table of benchmarks as JSON, CSV, Markdown, and in sentences.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "trainers/reports/markdown.h"
#include "trainers/tables/benchmarks/benchmark_table.h"
#include "trainers/tables/verdict_word.h"

namespace reverie {
namespace {

std::string mark_of(const BenchmarkRow& row) {
  return row.verdict.mark() + (row.items < row.all_items ? "  LIMITED" : "");
}

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : std::string(kUnknown);
}

Json benchmark_statistic_json(const Statistic& s) {
  return {{"mean", number_or_null(s.mean)}, {"sd", s.sd ? Json(*s.sd) : Json()}, {"n", s.n}};
}

Json comparison_json(const BenchmarkComparison& c) {
  return {{"difference", c.mean},
          {"interval_95", {c.low, c.high}},
          {"by_seed", c.by_seed},
          {"mcnemar_p_largest", c.p},
          {"finding", c.leaks        ? "leaks"
                      : c.sign() > 0 ? "better"
                      : c.sign() < 0 ? "worse"
                                     : "none"}};
}

Json cell_json(const BenchmarkCell& cell, const std::string& title) {
  Json out = {{"task", cell.task}, {"model", cell.model}, {"title", title}};
  if (cell.latents > 0) out["latents"] = cell.latents;
  if (cell.stage > 0) out["stage"] = cell.stage;
  if (cell.latents_every > 0) out["latents_every"] = cell.latents_every;
  out["shuffled"] = cell.shuffled;
  return out;
}
Json cell_json(const BenchmarkRow& row) {
  return cell_json(row.cell, row.title);
}

// "+7.2 against Direct (64.0 %), 95 % +5.1 to +9.3, McNemar's p 1e-08: better"
std::string against_text(const BenchmarkFinding::Against& a) {
  const BenchmarkComparison& c = a.comparison;
  const bool several = c.by_seed.size() > 1;
  std::string out = fmt::format(
      "{:+.1f} against {} ({}{}), 95 % {:+.1f} to {:+.1f}, McNemar's p {}{}: ", 100 * c.mean,
      a.row->title, percent(a.row->accuracy.mean), mark_of(*a.row), 100 * c.low, 100 * c.high,
      p_text(c.p), several ? " at most" : "");
  if (c.leaks) return out + "no result, one of the two LEAKS";
  if (c.sign() != 0) return out + (c.sign() > 0 ? "better" : "worse");
  return out + (c.low > 0 || c.high < 0 ? "seeds disagree, so no difference is shown"
                                        : "no difference that these items show");
}

std::string list_of(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, "; "));
}

// "It helps against A; B, and not against C."
std::string conclusion_of(const BenchmarkFinding& finding) {
  std::vector<std::string> helps, not_helps;
  for (const auto& a : finding.against)
    (a.comparison.sign() > 0 && !a.comparison.leaks ? helps : not_helps).push_back(a.row->title);
  if (helps.empty()) return "It helps against none of: " + list_of(not_helps) + ".";
  if (not_helps.empty()) return "It helps against all of: " + list_of(helps) + ".";
  return fmt::format("It helps against {}, and not against {}.", list_of(helps),
                     list_of(not_helps));
}

std::string chance_text(const BenchmarkRow& row) {
  return std::isfinite(row.chance) ? fmt::format("chance {}", percent(row.chance))
                                   : std::string("chance not known");
}

std::string finding_text(const BenchmarkFinding& finding) {
  const BenchmarkRow& row = *finding.row;
  std::vector<std::string> against;
  for (const auto& a : finding.against) against.push_back(against_text(a));
  const size_t seeds = row.seeds.size();
  return fmt::format(
      "{}, {}: {} right of {} items{}{} ({}). {} In points: {}.", row.cell.task, row.title,
      accuracy_text(row), row.items,
      row.items < row.all_items ? fmt::format(", the first of {}", row.all_items) : std::string(),
      row.trained ? fmt::format(", {} seed{}", seeds, seeds == 1 ? "" : "s") : "", chance_text(row),
      conclusion_of(finding), list_of(against));
}

// A task on which little can be seen, in words.
struct TaskCaution {
  std::string text;
  bool says_all = false;  ///< no comparison says more
};
TaskCaution task_caution(const BenchmarkTable& table, const std::string& task) {
  const BenchmarkRow* base = table.baseline_of(task);
  if (!base) return {fmt::format("{}: the baseline has not been measured yet.", task), false};
  if (base->accuracy.mean > 0.98)
    return {fmt::format("{}: {} is right on {} of the items already, so nothing can help by much.",
                        task, base->title, percent(base->accuracy.mean)),
            false};
  double best = 0;
  for (const BenchmarkRow* row : table.of_task(task))
    if (!row->verdict.leaks()) best = std::max(best, row->accuracy.mean);
  // Two standard errors of guessing.
  const double noise =
      2 * std::sqrt(base->chance * (1 - base->chance) / double(std::max<int64_t>(1, base->items)));
  if (std::isfinite(noise) && best <= base->chance + noise)
    return {fmt::format("{}: no row is above chance ({}; the best has {}), so this training says "
                        "nothing for or against latents there.",
                        task, percent(base->chance), percent(best)),
            true};
  return {};
}

std::string benchmark_csv_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : std::string();
}

// What is missing of a task: a sentence for each file; they stand in the order of their rows.
std::vector<std::string> gap_sentences(const BenchmarkTable& table, const std::string& task) {
  std::vector<std::string> out, files;
  for (const BenchmarkGap* gap : table.gaps_of_task(task))
    if (std::find(files.begin(), files.end(), gap->file) == files.end()) files.push_back(gap->file);
  for (const std::string& file : files) {
    std::vector<std::string> titles;
    for (const BenchmarkGap* gap : table.gaps_of_task(task))
      if (gap->file == file) titles.push_back(gap->title);
    out.push_back(fmt::format(
        "{}: no data for {}: {} is missing. Where it is published, and how to get it, is said when "
        "the table's command runs again.",
        task, list_of(titles), file));
  }
  return out;
}

std::string task_rows(const BenchmarkTable& table, const std::string& task) {
  std::string out = fmt::format("\n## {}\n\n", escape_markdown(task));
  const auto rows = table.of_task(task);
  if (!rows.empty())
    out += fmt::format("{} items{}, {}.\n\n", rows[0]->items,
                       rows[0]->items < rows[0]->all_items
                           ? fmt::format(" (LIMITED: the first of {})", rows[0]->all_items)
                           : std::string(),
                       chance_text(*rows[0]));
  out +=
      "| model | right | difference to the base, points (95 %) | McNemar's p | tokens written | "
      "ms an item | seeds | verdict |\n|---|---:|---:|---:|---:|---:|---:|---|\n";
  for (const BenchmarkRow* row : rows) {
    const auto& c = row->against_base;
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} |\n", escape_markdown(row->title),
                       accuracy_text(*row), c ? points_text(*c) + mark_of(*row) : kUnknown,
                       c ? p_text(c->p) : kUnknown, figure_text(row->tokens, 1),
                       figure_text(row->milliseconds, 2),
                       row->trained ? std::to_string(row->seeds.size()) : kUnknown,
                       row->verdict.leaks() ? "**" + verdict_word(row->verdict) + "**"
                                            : verdict_word(row->verdict));
  }
  for (const BenchmarkGap* gap : table.gaps_of_task(task))
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} | |\n", escape_markdown(gap->title),
                       kNoData, kUnknown, kUnknown, kUnknown, kUnknown, kUnknown);
  return out;
}

// In front of the command that trains such a model.
std::string left_out_text(const MissingRuns& runs) {
  return fmt::format(
      "{}: its rows are left out, since no run of it has finished. It is trained by ", runs.title);
}

// Gaps, cautions and findings, task by task.
std::vector<std::string> sentences_of_rows(const BenchmarkTable& table) {
  std::vector<std::string> out;
  const auto findings = table.findings();
  for (const std::string& task : shown_tasks(table)) {
    for (std::string& sentence : gap_sentences(table, task)) out.push_back(std::move(sentence));
    if (table.of_task(task).empty()) continue;
    const TaskCaution caution = task_caution(table, task);
    if (!caution.text.empty()) out.push_back(caution.text);
    if (caution.says_all) continue;
    for (const BenchmarkFinding& finding : findings)
      if (finding.row->cell.task == task) out.push_back(finding_text(finding));
  }
  return out;
}

}  // namespace

std::vector<std::string> shown_tasks(const BenchmarkTable& table) {
  std::vector<std::string> out;
  for (const std::string& task : table.roles.tasks)
    if (!table.of_task(task).empty() || !table.gaps_of_task(task).empty()) out.push_back(task);
  return out;
}

std::string accuracy_text(const BenchmarkRow& row) {
  const Statistic& s = row.accuracy;
  return (s.sd ? fmt::format("{:.1f} \u00b1 {:.1f} %", 100 * s.mean, 100 * *s.sd)
               : percent(s.mean)) +
         mark_of(row);
}

std::string points_text(const BenchmarkComparison& c) {
  return fmt::format("{:+.1f} ({:+.1f} to {:+.1f})", 100 * c.mean, 100 * c.low, 100 * c.high);
}

std::string p_text(double p) {
  return p < 1e-3 ? fmt::format("{:.0e}", p) : fmt::format("{:.3f}", p);
}

std::string figure_text(const Statistic& s, int decimals) {
  return std::isfinite(s.mean) ? fmt::format("{:.{}f}", s.mean, decimals) : std::string(kUnknown);
}

std::vector<std::string> benchmark_sentences(const BenchmarkTable& table) {
  std::vector<std::string> out;
  for (const MissingRuns& runs : table.missing_runs)
    out.push_back(left_out_text(runs) + "`" + runs.command + "`");
  for (std::string& sentence : sentences_of_rows(table)) out.push_back(std::move(sentence));
  return out;
}

std::string explain_benchmarks(const BenchmarkTable& table) {
  const auto findings = table.findings();
  if (findings.empty())
    return "Nothing with latents or thoughts has been measured beside the base yet.";
  int64_t base = 0, all = 0;
  for (const BenchmarkFinding& finding : findings) {
    const auto helps = [](const BenchmarkFinding::Against& a) {
      return a.comparison.sign() > 0 && !a.comparison.leaks;
    };
    const BenchmarkRow* baseline = table.baseline_of(finding.row->cell.task);
    base += std::any_of(finding.against.begin(), finding.against.end(),
                        [&](const auto& a) { return a.row == baseline && helps(a); });
    all += std::all_of(finding.against.begin(), finding.against.end(), helps);
  }
  return fmt::format(
      "Of {} rows with latents or thoughts (a model, a number of latents, a task), {} answer{} "
      "more "
      "items rightly than the base, and {} more than every control measured beside {}.",
      findings.size(), base, base == 1 ? "s" : "", all, all == 1 ? "it" : "them");
}

Json benchmark_table_json(const BenchmarkTable& table) {
  Json rows = Json::array(), findings = Json::array();
  for (const BenchmarkRow& row : table.rows) {
    Json json = cell_json(row);
    json["seeds"] = row.trained ? Json(row.seeds) : Json();
    json["items"] = row.items;
    json["of"] = row.all_items;
    json["chance"] = number_or_null(row.chance);
    json["measured"] = {{"accuracy", benchmark_statistic_json(row.accuracy)},
                        {"tokens_written", benchmark_statistic_json(row.tokens)},
                        {"milliseconds_per_item", benchmark_statistic_json(row.milliseconds)}};
    json["against_base"] = row.against_base ? comparison_json(*row.against_base) : Json();
    json["verdict"] = verdict_word(row.verdict);
    if (!row.verdict.label().empty()) json["label"] = row.verdict.label();
    rows.push_back(std::move(json));
  }
  for (const BenchmarkFinding& finding : table.findings()) {
    Json json = cell_json(*finding.row);
    for (const auto& a : finding.against) {
      Json other = cell_json(*a.row);
      other.update(comparison_json(a.comparison));
      json["against"].push_back(std::move(other));
    }
    findings.push_back(std::move(json));
  }
  Json no_data = Json::array();
  for (const BenchmarkGap& gap : table.gaps) {
    no_data.push_back(cell_json(gap.cell, gap.title));
    no_data.back()["file"] = gap.file;
  }
  Json missing = Json::array();
  for (const MissingRuns& runs : table.missing_runs)
    missing.push_back({{"model", runs.model}, {"title", runs.title}, {"command", runs.command}});
  return {{"title", table.title},
          {"kind", "benchmarks"},
          {"explanation", explain_benchmarks(table)},
          {"sentences", benchmark_sentences(table)},
          {"baseline", table.roles.baseline},
          {"rows", std::move(rows)},
          {"findings", std::move(findings)},
          {"no_data", std::move(no_data)},
          {"missing_runs", std::move(missing)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs},
          {"provenance", provenance_json(table.provenance)}};
}

std::string benchmark_table_csv(const BenchmarkTable& table) {
  std::string out =
      "task,model,latents,stage,shuffled,latents_every,items,chance,accuracy,sd,seeds,difference,"
      "low,high,"
      "mcnemar_p_largest,tokens_written,milliseconds_per_item,verdict\n";
  for (const BenchmarkRow& row : table.rows) {
    const auto& c = row.against_base;
    const auto of_base = [&](double value) { return c ? benchmark_csv_number(value) : ""; };
    const BenchmarkComparison none;
    const BenchmarkComparison& d = c ? *c : none;
    out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", row.cell.task,
                       row.cell.model, row.cell.latents, row.cell.stage, row.cell.shuffled,
                       row.cell.latents_every, row.items, benchmark_csv_number(row.chance),
                       benchmark_csv_number(row.accuracy.mean),
                       row.accuracy.sd ? benchmark_csv_number(*row.accuracy.sd) : "",
                       row.trained ? row.seeds.size() : 0, of_base(d.mean), of_base(d.low),
                       of_base(d.high), of_base(d.p), benchmark_csv_number(row.tokens.mean),
                       benchmark_csv_number(row.milliseconds.mean), verdict_word(row.verdict));
  }
  for (const BenchmarkGap& gap : table.gaps)
    out += fmt::format("{},{},{},{},{},{},,,,,,,,,,,,{}\n", gap.cell.task, gap.cell.model,
                       gap.cell.latents, gap.cell.stage, gap.cell.shuffled, gap.cell.latents_every,
                       kNoData);
  return out;
}

std::string benchmark_table_markdown(const BenchmarkTable& table,
                                     const std::vector<PlotFile>& plots) {
  std::string out = "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) +
                    "\n\n" + escape_markdown(explain_benchmarks(table)) + "\n\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  for (const MissingRuns& runs : table.missing_runs)
    out += "* " + escape_markdown(left_out_text(runs)) + code_span(runs.command) + "\n";
  for (const std::string& sentence : sentences_of_rows(table))
    out += "* " + escape_markdown(sentence) + "\n";
  for (const std::string& task : shown_tasks(table)) out += task_rows(table, task);
  out +=
      "\nRight answers: mean \u00b1 sample standard deviation over the seeds. Differences are "
      "paired: the same items, a run against the base of its own seed. The interval resamples the "
      "items, with the mean over the seeds; McNemar's p is the largest of the seeds. Better or "
      "worse means that the interval leaves out 0 and all seeds agree. Tokens written: behind the "
      "question and its latents or thoughts. Milliseconds depend on what else the machine did.\n";
  for (const TableModel& m : table.models)
    if (!m.description.empty())
      out += fmt::format("\n* {}: {}", escape_markdown(m.title), escape_markdown(m.description));
  out += "\n";
  if (!table.citation.empty()) out += "\nPaper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

}  // namespace reverie
