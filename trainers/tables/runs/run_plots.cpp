#include "trainers/tables/runs/run_plots.h"

#include <algorithm>
#include <cmath>

#include "trainers/monitoring/metrics.h"

namespace reverie {
namespace {

constexpr double kWideRange = 20;  // of positive values, from which on a log scale shows more

bool has_finite(const std::vector<PlotPoint>& points) {
  return std::any_of(points.begin(), points.end(), [](auto& p) { return std::isfinite(p.y); });
}

bool spans_decades(const LinePlot& plot) {
  double low = INFINITY, high = 0;
  for (const PlotSeries& series : plot.series)
    for (const PlotPoint& p : series.mean) {
      if (!std::isfinite(p.y)) continue;
      if (p.y <= 0) return false;
      low = std::min(low, p.y);
      high = std::max(high, p.y);
    }
  return high > kWideRange * low;
}

}  // namespace

double steps_of(const std::vector<RunRecord>& runs) {
  double steps = 1;
  for (const RunRecord& run : runs)
    steps = std::max({steps, double(run.last_step()),
                      run.finished() ? 0.0 : metric_value(run.config.at("train"), "steps")});
  return steps;
}

LinePlot losses_of_run(const RunRecord& run) {
  const double steps = steps_of({run});
  LinePlot plot{"Loss", "step", "nats per token", steps, {}, {}};
  const auto add = [&](const char* title, int color, std::vector<PlotPoint> points) {
    if (!has_finite(points)) return;
    PlotSeries series{title, run.label(), color};
    series.mean = std::move(points);
    plot.series.push_back(std::move(series));
  };
  if (run.has_latents()) {
    // The base's own losses are of other tokens, and the same at every step where it is frozen.
    add("training batches, behind latents", 4, run.smooth_curve("train", "loss", steps));
    add("train, behind latents", 0, run.curve("eval", "augmented.train_loss"));
    add("validation, behind latents", 1, run.curve("eval", "augmented.val_loss"));
    add("validation, the base on the same tokens", 3,
        run.curve("eval", "augmented.base_loss_on_same_predictions"));
    return plot;
  }
  add("training batches", 4, run.smooth_curve("train", "loss", steps));
  add("train", 0, run.curve("eval", "train_loss"));
  add("validation", 1, run.curve("eval", "val_loss"));
  add("validation, prefix-only", 3, run.curve("eval", "val_loss_prefix_only"));
  add("validation, memory carried", 2, run.curve("eval", "val_loss_carried"));
  return plot;
}

LinePlot carried_by_position(const RunRecord& run) {
  LinePlot plot{"Validation loss by position", "position in the window", "nats per token"};
  plot.x_begin = 1;
  PlotSeries carried{"carried", run.label(), 1}, reset{"reset", run.label(), 0};
  for (const Json& p : run.summary.at("carried").at("by_position")) {
    const double x = (metric_value(p, "first") + metric_value(p, "last")) / 2;
    carried.mean.push_back({x, metric_value(p, "carried")});
    reset.mean.push_back({x, metric_value(p, "reset")});
    plot.x_end = metric_value(p, "last");
  }
  plot.series = {carried, reset};
  return plot;
}

LinePlot value_of_runs(const std::vector<RunRecord>& runs, const std::string& title,
                       const std::string& unit, const std::string& event, const std::string& key) {
  const double steps = steps_of(runs);
  LinePlot plot{title, "step", unit, steps, {}, {}};
  const bool is_loss = key.find("loss") != key.npos;
  for (size_t i = 0; i < runs.size(); ++i) {
    auto points = runs[i].smooth_curve(event, key, steps);
    if (!has_finite(points)) continue;
    PlotSeries series{runs[i].name, is_loss ? runs[i].label() : "", int(i)};
    series.mean = std::move(points);
    plot.series.push_back(std::move(series));
  }
  if (plot.series.size() > kMostLines) plot.compared_with = 0;
  plot.log_y = !is_loss && key != "learning_rate" && spans_decades(plot);
  return plot;
}

std::string side_panels(const std::vector<RunRecord>& runs) {
  struct Value {
    const char *title, *unit, *key;
  };
  std::vector<std::string> panels;
  for (const Value& v : {Value{"Learning rate", "", "learning_rate"},
                         Value{"Gradient norm", "before clipping", "gradient_norm"},
                         Value{"Speed", "tokens/s", "tokens_per_second"}}) {
    LinePlot plot = value_of_runs(runs, v.title, v.unit, "train", v.key);
    if (runs.size() == 1)
      for (PlotSeries& series : plot.series) series.title = "";
    if (plot.series.size() > kMostLines)
      for (PlotSeries& series : plot.series) series.title = "";  // colours as in the legend
    panels.push_back(line_panel(plot));
  }
  return panel_grid(panels);
}

}  // namespace reverie
