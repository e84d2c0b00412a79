#include "trainers/tables/losses/loss_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "trainers/monitoring/metrics.h"
#include "trainers/reports/html.h"
#include "trainers/reports/page.h"
#include "trainers/reports/svg_plot.h"

namespace reverie {
namespace {

constexpr int kCurvePoints = 100;  // the caption says "each hundredth"

std::string leak_mark(const LossRow& row) {
  return row.causal ? "" : " <span class=\"leaks\">" + escape_html(row.label()) + "</span>";
}

int color_of(const LossTable& table, const std::string& model) {
  for (size_t i = 0; i < table.models.size(); ++i)
    if (table.models[i].name == model) return int(i);
  return 0;
}

std::vector<const LossRun*> runs_of(const std::vector<LossRun>& runs, const std::string& model,
                                    int64_t block_size) {
  std::vector<const LossRun*> out;
  for (const LossRun& run : runs)
    if (run.model == model && run.block_size == block_size) out.push_back(&run);
  std::sort(out.begin(), out.end(), [](auto* a, auto* b) { return a->seed < b->seed; });
  return out;
}

std::optional<PlotReference> uniform_reference(const LossTable& table) {
  const auto uniform = table.uniform_loss();
  if (!uniform) return std::nullopt;
  return PlotReference{
      *uniform, fmt::format("guessing: ln {} = {}", *table.vocabulary_size, format_loss(*uniform))};
}

std::vector<PlotPoint> training_curve(const LossRun& run) {
  std::vector<PlotPoint> points;
  for (const Json& event : run.metrics)
    if (event.value("event", "") == "train")
      points.push_back({metric_value(event, "step"), metric_value(event, "loss")});
  return points;
}

LinePlot training_plot(const LossTable& table, const std::vector<LossRun>& runs,
                       int64_t block_size) {
  LinePlot plot{fmt::format("block size {}", block_size),
                "step",
                "training loss (nats)",
                0,
                {},
                uniform_reference(table)};
  double& last_step = plot.x_end;
  for (const LossRun& run : runs)
    if (run.block_size == block_size)
      for (const PlotPoint& p : training_curve(run))
        if (std::isfinite(p.x)) last_step = std::max(last_step, p.x);
  for (const LossRow& row : table.rows) {
    if (row.block_size != block_size) continue;
    PlotSeries series{row.title, row.label(), color_of(table, row.model), {}, {}};
    std::vector<PlotPoint> all;
    for (const LossRun* run : runs_of(runs, row.model, block_size)) {
      const auto curve = training_curve(*run);
      series.runs.push_back(bucket_means(curve, last_step, kCurvePoints));
      all.insert(all.end(), curve.begin(), curve.end());
    }
    series.mean = bucket_means(all, last_step, kCurvePoints);
    plot.series.push_back(std::move(series));
  }
  return plot;
}

BarPlot loss_plot(const LossTable& table, int64_t block_size) {
  BarPlot plot{fmt::format("block size {}", block_size),
               "validation loss (nats)",
               {},
               uniform_reference(table)};
  const auto bar = [](const Statistic& s) { return PlotBar{s.mean, s.sd, format_statistic(s)}; };
  for (const LossRow& row : table.rows)
    if (row.block_size == block_size)
      plot.pairs.push_back({row.title, row.label(), color_of(table, row.model), bar(row.val_loss),
                            bar(row.val_loss_prefix_only)});
  return plot;
}

std::string panels(const std::vector<std::string>& drawings) {
  std::string out = "<div class=\"panels\">\n";
  for (const std::string& drawing : drawings)
    if (!drawing.empty()) out += "<div class=\"panel\">\n" + drawing + "</div>\n";
  return out + "</div>\n";
}

// The models that have rows, with the look of their lines.
std::string model_legend(const LossTable& table) {
  std::string out = "<ul class=\"legend\">\n";
  for (const TableModel& model : table.models) {
    const LossRow* shown = nullptr;
    for (const LossRow& row : table.rows)
      if (row.model == model.name && (!shown || !row.causal)) shown = &row;
    if (!shown) continue;
    out += fmt::format(
        "<li><svg viewBox=\"0 0 28 10\" class=\"swatch\" aria-hidden=\"true\"><path d=\"M1 5L27 "
        "5\" "
        "class=\"mean series-{}{}\"/></svg><span><b>{}</b>{}",
        color_of(table, model.name) % kPlotColors, shown->causal ? "" : " dashed",
        escape_html(model.title), leak_mark(*shown));
    if (!model.description.empty())
      out += "<span class=\"quiet\">: " + escape_html(model.description) + "</span>";
    out += "</span></li>\n";
  }
  return out + "</ul>\n";
}

std::string table_section(const LossTable& table) {
  std::string out =
      "<section>\n<h2>Table</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Table\">\n"
      "<table>\n<thead><tr>";
  const auto kind = [](const std::string& name) {
    if (name == "model") return " class=\"model\"";
    for (const LossColumn& column : loss_columns())
      if (name == column.name && column.numeric) return " class=\"number\"";
    return "";
  };
  for (const std::string& name : table.columns)
    for (const LossColumn& column : loss_columns())
      if (name == column.name)
        out += fmt::format("<th scope=\"col\"{}>{}</th>", kind(name), column.heading);
  out += "</tr></thead>\n";
  for (const int64_t block_size : table.block_sizes()) {
    out += "<tbody>\n";
    for (const LossRow& row : table.rows) {
      if (row.block_size != block_size) continue;
      out += row.causal ? "<tr>" : "<tr class=\"leaking\">";
      for (const std::string& name : table.columns) {
        const LossCell cell = loss_cell(row, name);
        const char* tag = name == "model" ? "th" : "td";
        const bool verdict = name == "verdict";
        out += fmt::format("<{}{}{}>", tag, name == "model" ? " scope=\"row\"" : "", kind(name));
        if (verdict)
          out += row.causal ? "<span class=\"causal\">causal</span>" : leak_mark(row);
        else
          out += escape_html(cell.text) + (cell.labelled ? leak_mark(row) : "");
        out += fmt::format("</{}>", tag);
      }
      out += "</tr>\n";
    }
    out += "</tbody>\n";
  }
  out +=
      "</table>\n</div>\n<p class=\"quiet\">Losses in nats, mean \u00b1 sample standard deviation "
      "over the seeds. "
      "<i>Teacher-forced</i>: one forward over the whole block, as in training. "
      "<i>Prefix-only</i>: each position is "
      "scored by a forward over its own prefix alone, as in generation; for a causal model the two "
      "differ only by "
      "which positions were drawn. <i>Largest future logit change</i>: how far earlier logits move "
      "when only later "
      "tokens change. <span class=\"leaks\">LEAKS</span> marks numbers of a model that saw the "
      "tokens it was asked to "
      "predict: they say nothing about prediction.";
  if (!table.citation.empty()) out += " Paper: " + escape_html(table.citation) + ".";
  return out + "</p>\n</section>\n";
}

std::string plot_sections(const LossTable& table, const std::vector<LossRun>& runs) {
  std::vector<std::string> curves, losses;
  for (const int64_t block_size : table.block_sizes()) {
    curves.push_back(draw_line_plot(training_plot(table, runs, block_size)));
    losses.push_back(draw_bar_plot(loss_plot(table, block_size)));
  }
  std::string out;
  if (std::any_of(curves.begin(), curves.end(), [](const auto& c) { return !c.empty(); }))
    out += "<section>\n<h2>Training loss</h2>\n" + model_legend(table) + panels(curves) +
           "<p class=\"quiet\">Loss of the training batches, averaged over each hundredth of a run "
           "so that the lines can be told "
           "apart. Thick: the mean over the seeds; thin: each seed; dashed: a model that "
           "leaks.</p>\n</section>\n";
  out +=
      "<section>\n<h2>Teacher-forced beside prefix-only</h2>\n"
      "<ul class=\"legend\">\n"
      "<li><svg viewBox=\"0 0 28 10\" class=\"swatch\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" "
      "width=\"26\" height=\"8\" "
      "class=\"filled series-none\"/></svg><span><b>teacher-forced</b><span class=\"quiet\">: the "
      "whole block in one forward"
      "</span></span></li>\n"
      "<li><svg viewBox=\"0 0 28 10\" class=\"swatch\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" "
      "width=\"26\" height=\"8\" "
      "class=\"outlined series-none\"/></svg><span><b>prefix-only</b><span class=\"quiet\">: each "
      "position from its own prefix, "
      "as in generation</span></span></li>\n</ul>\n" +
      panels(losses) + "</section>\n";
  return out;
}

// The last text that a run wrote; nullptr when it wrote none.
const Json* last_sample(const LossRun& run) {
  for (auto event = run.metrics.rbegin(); event != run.metrics.rend(); ++event)
    if (event->value("event", "") == "sample" && event->contains("text") &&
        (*event)["text"].is_string())
      return &*event;
  return nullptr;
}

std::string sample_text(const LossRun& run, const Json& sample) {
  return fmt::format("<p class=\"quiet\">block size {}, seed {}, step {}</p>\n<pre>{}</pre>\n",
                     run.block_size, run.seed, int64_t(metric_value(sample, "step")),
                     escape_html(sample["text"].get<std::string>()));
}

std::string sample_section(const LossTable& table, const std::vector<LossRun>& runs) {
  std::string cards;
  for (const TableModel& model : table.models) {
    std::vector<std::string> texts;  // the first seed of every block size
    const LossRow* shown = nullptr;
    for (const int64_t block_size : table.block_sizes()) {
      const auto of_cell = runs_of(runs, model.name, block_size);
      if (of_cell.empty()) continue;
      const Json* sample = last_sample(*of_cell[0]);
      if (!sample) continue;
      texts.push_back(sample_text(*of_cell[0], *sample));
      if (const LossRow* row = table.find(model.name, block_size); row && (!shown || !row->causal))
        shown = row;
    }
    if (texts.empty() || !shown) continue;
    cards += fmt::format("<article class=\"series-{}\">\n<h3>{}{}</h3>\n{}",
                         color_of(table, model.name) % kPlotColors, escape_html(model.title),
                         leak_mark(*shown), texts[0]);
    if (texts.size() > 1) {
      cards += "<details><summary>other block sizes</summary>\n";
      for (size_t i = 1; i < texts.size(); ++i) cards += texts[i];
      cards += "</details>\n";
    }
    cards += "</article>\n";
  }
  if (cards.empty()) return "";
  return "<section>\n<h2>What the models write</h2>\n<div class=\"samples\">\n" + cards +
         "</div>\n</section>\n";
}

}  // namespace

std::string loss_report_html(const LossTable& table, const std::vector<LossRun>& runs) {
  std::string out = page_begin(table.title, explain_losses(table));
  if (!table.provenance.dataset_note.empty())
    out +=
        "<p class=\"notice\"><b>Data:</b> " + escape_html(table.provenance.dataset_note) + "</p>\n";
  if (const std::string note = unfinished_note(table.finished_runs, table.planned_runs);
      !note.empty())
    out += "<p class=\"notice warning\">" + escape_html(note) + "</p>\n";
  out += "</header>\n";
  if (!table.rows.empty())
    out += table_section(table) + plot_sections(table, runs) + sample_section(table, runs);
  return out + page_end(table.notes, table.provenance);
}

}  // namespace reverie
