#include "trainers/tables/losses/loss_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "trainers/monitoring/metrics.h"
#include "trainers/reports/page.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

constexpr int kCurvePoints = 100;  // the caption says "each hundredth"

std::string leak_mark(const LossRow& row) {
  return row.label().empty() ? ""
                             : " <span class=\"leaks\">" + escape_html(row.label()) + "</span>";
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

// One standard deviation of the runs about their mean, where they have the same x.
std::vector<PlotInterval> deviation_band(const std::vector<std::vector<PlotPoint>>& runs) {
  std::vector<PlotInterval> band;
  if (runs.size() < 2) return band;
  for (size_t i = 0; i < runs[0].size(); ++i) {
    std::vector<double> values;
    for (const auto& run : runs)
      if (i < run.size() && run[i].x == runs[0][i].x) values.push_back(run[i].y);
    const Statistic s = statistic(values);
    if (s.sd) band.push_back({runs[0][i].x, s.mean - *s.sd, s.mean + *s.sd});
  }
  return band;
}

LinePlot training_plot(const LossTable& table, const std::vector<LossRun>& runs,
                       int64_t block_size) {
  LinePlot plot{fmt::format("Block size {}", block_size), "step", "training loss (nats)"};
  plot.reference = uniform_reference(table);
  double& last_step = plot.x_end;
  for (const LossRun& run : runs)
    if (run.block_size == block_size)
      for (const PlotPoint& p : training_curve(run))
        if (std::isfinite(p.x)) last_step = std::max(last_step, p.x);
  for (const LossRow& row : table.rows) {
    if (row.block_size != block_size) continue;
    PlotSeries series{row.title, row.label(), color_of(table, row.model)};
    std::vector<PlotPoint> all;
    std::vector<std::vector<PlotPoint>> of_runs;
    for (const LossRun* run : runs_of(runs, row.model, block_size)) {
      const auto curve = training_curve(*run);
      of_runs.push_back(bucket_means(curve, last_step, kCurvePoints));
      all.insert(all.end(), curve.begin(), curve.end());
    }
    series.mean = bucket_means(all, last_step, kCurvePoints);
    series.band = deviation_band(of_runs);
    plot.series.push_back(std::move(series));
  }
  if (plot.series.size() > kMostLines) plot.compared_with = 0;
  return plot;
}

BarPlot loss_plot(const LossTable& table, int64_t block_size) {
  BarPlot plot{fmt::format("Block size {}", block_size),
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
        "class=\"curve mean series-{}{}\"/></svg><span><b>{}</b>{}",
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
          out += (row.causal ? "<span class=\"causal\">causal</span>" : "") + leak_mark(row);
        else
          out += escape_html(cell.text) + (cell.labelled ? leak_mark(row) : "");
        out += fmt::format("</{}>", tag);
      }
      out += "</tr>\n";
    }
    out += "</tbody>\n";
  }
  out += "</table>\n</div>\n<p>" + escape_html(detail_losses(table)) + "</p>\n";
  out +=
      "<p class=\"quiet\">Losses in nats, mean \u00b1 sample standard deviation "
      "over the seeds. "
      "<i>Teacher-forced</i>: one forward over the whole block, as in training. "
      "<i>Prefix-only</i>: each position is "
      "scored by a forward over its own prefix alone, as in generation; for a causal model the two "
      "differ only by "
      "which positions were drawn. <i>Largest future logit change</i>: how far earlier logits move "
      "when only later "
      "tokens change. <span class=\"leaks\">" +
      std::string(kLeakLabel) +
      "</span> marks numbers of a model that saw the "
      "tokens it was asked to "
      "predict: they say nothing about prediction.";
  if (const std::string carried = explain_carried(table); !carried.empty())
    out += " " + escape_html(carried);
  if (!table.citation.empty()) out += " Paper: " + escape_html(table.citation) + ".";
  return out + "</p>\n</section>\n";
}

// The look of a bar, and what it stands for.
std::string bar_key(const char* kind, const char* name, const char* what) {
  return fmt::format(
      "<li><svg viewBox=\"0 0 28 10\" class=\"swatch\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" "
      "width=\"26\" height=\"8\" class=\"{} series-context\"/></svg><span><b>{}</b><span "
      "class=\"quiet\">: {}</span></span></li>\n",
      kind, name, what);
}

std::string plot_sections(const LossTable& table, const std::vector<LossRun>& runs) {
  std::string curves, losses;
  for (const int64_t block_size : table.block_sizes()) {
    losses += bar_figure(loss_plot(table, block_size));
    curves += line_figure(training_plot(table, runs, block_size));
  }
  std::string out =
      "<section>\n<h2>Teacher-forced beside prefix-only</h2>\n<ul class=\"legend\">\n";
  out += bar_key("filled", "teacher-forced", "the whole block in one forward");
  out += bar_key("outlined", "prefix-only", "each position from its own prefix, as in generation");
  out += "</ul>\n" + losses + "</section>\n";
  if (curves.empty()) return out;
  return out + "<section>\n<h2>Training loss</h2>\n" + model_legend(table) + curves +
         "<p class=\"quiet\">Loss of the training batches, averaged over each hundredth of a run. "
         "Line: the mean over the seeds; band: one sample standard deviation of the seeds about "
         "it; dashed: a model that leaks. Point at a line for its values.</p>\n</section>\n";
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

std::vector<PlotFile> loss_plot_files(const LossTable& table, const std::vector<LossRun>& runs) {
  std::vector<PlotFile> files;
  for (const int64_t block_size : table.block_sizes()) {
    files.push_back({fmt::format("losses_{}.svg", block_size),
                     fmt::format("Validation losses at block size {}: filled, teacher-forced; "
                                 "outlined, prefix-only",
                                 block_size),
                     bar_plot_file(loss_plot(table, block_size))});
    files.push_back({fmt::format("training_{}.svg", block_size),
                     fmt::format("Training loss at block size {}", block_size),
                     line_plot_file(training_plot(table, runs, block_size))});
  }
  std::erase_if(files, [](const PlotFile& file) { return file.svg.empty(); });
  return files;
}

std::string loss_report_html(const LossTable& table, const std::vector<LossRun>& runs) {
  std::string out =
      page_begin(title_of_table(table.title, table.provenance.preset), explain_losses(table));
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
