// A table of latents as JSON, Markdown and CSV, and in sentences.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainers/reports/markdown.h"
#include "trainers/reports/numbers.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/verdict_word.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

constexpr const char* kMinus = "\u2212";

Json change_json(const LatentEffect::Position& p) {
  const Statistic over_runs = statistic(p.change_of_run);
  return {{"mean", number_or_null(p.change_percent)},
          {"low", number_or_null(p.low)},
          {"high", number_or_null(p.high)},
          {"sd", over_runs.sd ? Json(*over_runs.sd) : Json()},
          {"n", over_runs.n}};
}

Json measured_json(const LatentEffect::Position& p) {
  return {{"ppl_change_percent", change_json(p)},
          {"perplexity", number_or_null(std::exp(p.nll))},
          {"base_perplexity", number_or_null(std::exp(p.base_nll))}};
}

Json costs_json(const LatentCosts& c) {
  Json out = {{"trainable_parameters", c.trainable_parameters},
              {"flops_per_token", number_or_null(c.flops_per_token)},
              {"flops_per_insertion", number_or_null(c.flops_per_insertion)},
              {"latency_ms", number_or_null(c.latency_ms)}};
  if (!c.device.empty()) out["device"] = c.device;
  return out;
}

// "Coprocessor with 8 latents".
std::string name_of(const LatentLine& line) {
  const std::string name =
      line.latents > 0 ? fmt::format("{} with {} latents", line.title, line.latents) : line.title;
  return line.verdict.label().empty() ? name : name + " (" + line.verdict.label() + ")";
}

std::string interval(const LatentEffect::Position& p) {
  return fmt::format("{} [{}, {}]", format_percent(p.change_percent), format_percent(p.low),
                     format_percent(p.high));
}

std::string format_flops(double flops) {
  return flops == 0     ? kUnknown
         : flops >= 1e9 ? fmt::format("{:.2f} G", flops / 1e9)
                        : fmt::format("{:.2f} M", flops / 1e6);
}

std::string cost_cells(const LatentCosts& c) {
  return fmt::format(" {} | {} | {} | {:.2f} |", format_integer(c.trainable_parameters),
                     format_flops(c.flops_per_token), format_flops(c.flops_per_insertion),
                     c.latency_ms);
}

// A row for each line and, below it, what the paper printed.
std::string markdown_changes(const LatentTable& table, const std::vector<int64_t>& shown) {
  std::string out = "## Change of perplexity by position after the latents\n\n| model | latents |";
  std::string rule = "|---|---:|";
  for (const int64_t position : shown) {
    out += fmt::format(" {} |", position);
    rule += "---:|";
  }
  out +=
      fmt::format(" 1 to {} [95 % interval] | seeds | verdict |\n", table.base_perplexity.size()) +
      rule + "---:|---:|---|\n";
  for (const LatentLine& line : table.lines) {
    const std::string name =
        fmt::format("| {} | {} |", escape_markdown(line.title),
                    line.latents > 0 ? std::to_string(line.latents) : kUnknown);
    out += name;
    for (const int64_t position : shown) {
      const auto& p = line.effect.by_position[size_t(position - 1)];
      const auto sd = statistic(p.change_of_run).sd;
      out += " " + format_percent(p.change_percent) +
             (sd && p.change_percent < 100 ? fmt::format(" \u00b1 {:.2f}", *sd) : "") +
             line.verdict.mark() + " |";
    }
    out += fmt::format(
        " {}{} | {} | {} |\n", interval(line.effect.all), line.verdict.mark(), line.seeds.size(),
        line.verdict.leaks() ? "**" + line.verdict.label() + "**" : verdict_word(line.verdict));
    if (line.paper.empty()) continue;
    out += fmt::format("| *the paper* | {} |", line.latents);
    for (const int64_t position : shown) {
      const auto paper = line.paper.find(position);
      out += " " + (paper == line.paper.end() ? kUnknown : format_percent(paper->second)) + " |";
    }
    out += fmt::format(" {} | | |\n", kUnknown);
  }
  const std::string shrunk = shrunk_label(table);
  out += "| *the base's perplexity" + (shrunk.empty() ? "" : ", " + shrunk) + "* | |";
  for (const int64_t position : shown)
    out += fmt::format(" {:.3f} |", table.base_perplexity[size_t(position - 1)]);
  out += fmt::format(" {:.3f} | | |\n", table.base_perplexity_of_all);
  return out;
}

std::string markdown_costs(const LatentTable& table) {
  std::string out =
      "\n## Costs\n\n| model | latents | trained parameters | FLOPs per token | FLOPs per "
      "insertion | "
      "ms to the next token |\n|---|---:|---:|---:|---:|---:|\n";
  out += fmt::format("| *the base* | {} |", kUnknown) + cost_cells(table.base_costs) + "\n";
  for (const LatentLine& line : table.lines)
    if (!line.model.ends_with(kShuffledSuffix))
      out += fmt::format("| {} | {} |", escape_markdown(line.title),
                         line.latents > 0 ? std::to_string(line.latents) : kUnknown) +
             cost_cells(line.costs) + "\n";
  const std::string& device = table.base_costs.device;
  return out +
         fmt::format(
             "\n*FLOPs per token*: forward operations in training for one token of text, with its "
             "share of the insertions. *FLOPs per insertion*: making the latents after half a "
             "window of text and reading them. *ms to the next token*: from half a window of text, "
             "nothing cached, to the logits of its next token{}.\n",
             device.empty() ? "" : ", on device " + device);
}

}  // namespace

std::string format_percent(double change) {
  if (std::isnan(change)) return kUnknown;
  if (change >= 100) return fmt::format("\u00d7 {:.3g}", 1 + change / 100);
  const std::string size = fmt::format("{:.2f} %", std::abs(change));
  return size == "0.00 %" ? size : (change < 0 ? kMinus : "+") + size;
}

std::string explain_latents(const LatentTable& table) {
  const LatentLine* subject = table.subject();
  if (!subject) return "No run with latents has finished yet.";
  std::string out = fmt::format(
      "{} changes the perplexity of the {} tokens after an insertion by {} relative to the "
      "untouched base.",
      name_of(*subject), subject->effect.by_position.size(), interval(subject->effect.all));
  std::string better, worse, same;
  for (const LatentLine& line : table.lines) {
    if (!line.subject_against_it || (line.latents > 0 && line.latents != subject->latents))
      continue;
    const auto& difference = line.subject_against_it->all;
    std::string& list = difference.high < 0 ? worse : difference.low > 0 ? better : same;
    list += (list.empty() ? "" : "; ") + name_of(line);
  }
  if (!worse.empty()) out += " It beats: " + worse + ".";
  if (!better.empty()) out += " It is beaten by: " + better + ".";
  if (!same.empty()) out += " Not distinguishable from it: " + same + ".";
  return out;
}

std::string detail_latents(const LatentTable& table) {
  const LatentLine* subject = table.subject();
  if (!subject) return "";
  std::string out = fmt::format(
      "Intervals hold 95 % of resamplings of {} texts with {} insertions: {}. At position 1, {} "
      "changes perplexity by {}.",
      subject->effect.texts, format_integer(subject->effect.insertions), subject->effect.rule,
      name_of(*subject), interval(subject->effect.by_position[0]));
  for (const LatentLine& line : table.lines)
    if (line.subject_against_it && (line.latents == 0 || line.latents == subject->latents))
      out += fmt::format(
          " {}: {} against the base; the subject's change against it, text by text, is {}.",
          name_of(line), format_percent(line.effect.all.change_percent),
          interval(line.subject_against_it->all));
  return out;
}

namespace {

// Position 1 by how long the text before the insertion is.
std::string markdown_by_offset(const LatentTable& table) {
  const auto& columns = table.lines.at(0).effect.first_by_offset;
  std::string head = "| model | latents |", rule = "|---|---:|", rows;
  for (const auto& range : columns) {
    head += range.first == range.last
                ? fmt::format(" {} ({}) |", range.first, range.insertions)
                : fmt::format(" {} to {} ({}) |", range.first, range.last, range.insertions);
    rule += "---:|";
  }
  for (const LatentLine& line : table.lines) {
    rows += fmt::format("| {} | {} |", escape_markdown(line.title) + line.verdict.mark(),
                        line.latents > 0 ? std::to_string(line.latents) : kUnknown);
    for (const auto& range : line.effect.first_by_offset)
      rows += " " + format_percent(range.change_percent) + " |";
    rows += "\n";
  }
  return fmt::format(
      "\n## Position 1, by the number of tokens before the insertion (insertions)\n\n{}\n{}\n{}",
      head, rule, rows);
}

// The subject against each control, text by text; nothing where there is no control.
std::string markdown_against(const LatentTable& table, const std::vector<int64_t>& shown) {
  std::string rows;
  for (const LatentLine& line : table.lines) {
    if (!line.subject_against_it) continue;
    rows += fmt::format("| {} |", escape_markdown(name_of(line)));
    for (const int64_t position : shown)
      rows += " " + interval(line.subject_against_it->by_position[size_t(position - 1)]) + " |";
    rows += " " + interval(line.subject_against_it->all) + " |\n";
  }
  if (rows.empty()) return "";
  std::string head = "| against |", rule = "|---|";
  for (const int64_t position : shown) {
    head += fmt::format(" {} |", position);
    rule += "---:|";
  }
  return fmt::format(
      "\n## {} against each, text by text\n\n{} all |\n{}---:|\n{}\nWhat it changes, with as many "
      "latents ({} where the control has none), in the perplexity of each control on the same "
      "predictions [95 % interval]: below zero, it is better.\n",
      escape_markdown(table.subject()->title), head, rule, rows, table.subject()->latents);
}

}  // namespace

namespace {

Json by_offset_json(const LatentEffect& effect) {
  Json out = Json::array();
  for (const auto& range : effect.first_by_offset)
    out.push_back({{"offsets", {range.first, range.last}},
                   {"insertions", range.insertions},
                   {"ppl_change_percent", number_or_null(range.change_percent)}});
  return out;
}

}  // namespace

Json latent_table_json(const LatentTable& table) {
  Json rows = Json::array(), lines = Json::array();
  for (const LatentLine& line : table.lines) {
    for (const auto& p : line.effect.by_position) {
      const auto paper = line.paper.find(p.position);
      rows.push_back(
          {{"model", line.model},
           {"title", line.title},
           {"latents", line.latents},
           {"position", p.position},
           {"paper",
            paper == line.paper.end() ? Json() : Json{{"ppl_change_percent", paper->second}}},
           {"measured", measured_json(p)},
           {"subject_against_it",
            line.subject_against_it
                ? change_json(line.subject_against_it->by_position[size_t(p.position - 1)])
                : Json()},
           {"seeds", line.seeds},
           {"verdict", verdict_word(line.verdict)}});
      if (!line.verdict.label().empty()) rows.back()["label"] = line.verdict.label();
    }
    lines.push_back({{"model", line.model},
                     {"title", line.title},
                     {"latents", line.latents},
                     {"measured", measured_json(line.effect.all)},
                     {"subject_against_it",
                      line.subject_against_it ? change_json(line.subject_against_it->all) : Json()},
                     {"texts", line.effect.texts},
                     {"insertions", line.effect.insertions},
                     {"rule", line.effect.rule},
                     {"training_insertions", line.training_insertions},
                     {"position_1_by_offset", by_offset_json(line.effect)},
                     {"seeds", line.seeds},
                     {"costs", costs_json(line.costs)},
                     {"verdict", line.verdict.json()}});
    if (!line.verdict.label().empty()) lines.back()["label"] = line.verdict.label();
  }
  return {{"title", table.title},
          {"citation", table.citation},
          {"rows", std::move(rows)},
          {"all_positions", std::move(lines)},
          {"base",
           {{"path", table.base},
            {"perplexity", table.base_perplexity},
            {"perplexity_of_all_positions", number_or_null(table.base_perplexity_of_all)},
            {"costs", costs_json(table.base_costs)}}},
          {"explanation", explain_latents(table) + " " + detail_latents(table)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs ? Json(table.planned_runs) : Json()},
          {"provenance", provenance_json(table.provenance)}};
}

std::string latent_table_markdown(const LatentTable& table, const std::vector<PlotFile>& plots) {
  std::string out = "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) +
                    "\n\n" + escape_markdown(explain_latents(table)) + "\n\n";
  if (const auto note = unfinished_note(table.finished_runs, table.planned_runs); !note.empty())
    out += "**" + note + "**\n\n";
  std::vector<int64_t> shown;
  for (const int64_t position : table.shown)
    if (position <= int64_t(table.base_perplexity.size())) shown.push_back(position);

  out += markdown_changes(table, shown);
  if (const std::string detail = detail_latents(table); !detail.empty())
    out += "\n" + escape_markdown(detail) + "\n";
  out +=
      "\nPerplexity against the untouched base's on the same tokens of the same held-out texts; "
      "mean "
      "over the seeds \u00b1 their sample standard deviation. Intervals: by resampling texts, and "
      "of "
      "each text its insertions. Base and models are scored behind the same insertions. "
      "*Position n*: the n-th token after the latents, from context, latents and the n \u2212 1 "
      "true "
      "tokens between. \u00d7: perplexity grew to so many times the base's.\n";

  out += markdown_against(table, shown) + markdown_by_offset(table) + markdown_costs(table);
  if (!table.citation.empty()) out += "Paper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

std::string latent_table_csv(const LatentTable& table) {
  std::string out =
      "model,latents,position,ppl_change_percent,low,high,sd,seeds,perplexity,base_perplexity,"
      "paper_ppl_change_percent,verdict\n";
  const auto number = [](double value) {
    return std::isfinite(value) ? fmt::format("{:.6g}", value) : std::string();
  };
  for (const LatentLine& line : table.lines)
    for (const auto& p : line.effect.by_position) {
      const auto sd = statistic(p.change_of_run).sd;
      const auto paper = line.paper.find(p.position);
      out += fmt::format(
          "{},{},{},{},{},{},{},{},{},{},{},{}\n", line.model, line.latents, p.position,
          number(p.change_percent), number(p.low), number(p.high), sd ? number(*sd) : "",
          line.seeds.size(), number(std::exp(p.nll)), number(std::exp(p.base_nll)),
          paper == line.paper.end() ? "" : number(paper->second), verdict_word(line.verdict));
    }
  return out;
}

}  // namespace reverie
