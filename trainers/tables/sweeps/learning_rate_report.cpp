#include "trainers/tables/sweeps/learning_rate_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainers/reports/page.h"
#include "trainers/reports/svg_plot.h"

namespace reverie {

std::string explain_learning_rate(const LearningRateRange& range) {
  const std::string label =
      range.leaks ? fmt::format(" {}: these losses say nothing about prediction.", range.label())
                  : "";
  if (!range.suggested)
    return fmt::format(
        "The averaged loss was lowest at {:.2g}, among the first rates that were tried, where its "
        "fall is not told from noise: this test suggests no rate. Begin lower, with more steps "
        "(--lowest-rate {:.1g}).{}",
        range.lowest, range.points.front().rate / 100, label);
  if (!range.ran_away && range.lowest == range.points.back().rate)
    return fmt::format(
        "The averaged loss fell fastest at a rate of {:.1g}, and was still falling at the "
        "highest rate tried, {:.2g}: this short run does not show where training diverges.{}",
        *range.suggested, range.points.back().rate, label);
  return fmt::format(
      "The averaged loss fell fastest at a rate of {:.1g}, which is the rate to begin with, and "
      "was lowest at {:.1g}. A sweep around it tells more than this short run.{}",
      *range.suggested, range.lowest, label);
}

std::string learning_rate_html(const LearningRateRange& range, const std::string& command) {
  LinePlot plot{"Loss while the learning rate grows", "learning rate", "nats per token"};
  plot.log_x = true;
  PlotSeries loss{"loss of the batch", range.label(), 4}, smooth{"averaged", range.label(), 0};
  double lowest = range.points[0].smooth;
  for (const auto& p : range.points) {
    loss.mean.push_back({p.rate, p.loss});
    smooth.mean.push_back({p.rate, p.smooth});
    lowest = std::min(lowest, p.smooth);
  }
  plot.series = {loss, smooth};
  plot.break_y = 1.2 * range.points[0].smooth;
  Provenance provenance;
  provenance.command = command;
  return page_begin("Finding a learning rate", explain_learning_rate(range)) +
         "</header>\n<section>\n" + line_figure(plot) +
         "<p class=\"quiet\">One training step at each rate, from the run's initial weights on. "
         "Averaged: over the last ten steps or so.</p>\n</section>\n" +
         page_end({}, provenance);
}

Json learning_rate_json(const LearningRateRange& range) {
  Json points = Json::array();
  for (const auto& p : range.points)
    points.push_back({{"learning_rate", p.rate}, {"loss", p.loss}, {"smooth_loss", p.smooth}});
  Json out = {{"suggested", range.suggested ? Json(*range.suggested) : Json()},
              {"lowest", range.lowest},
              {"ran_away", range.ran_away},
              {"points", points}};
  if (range.leaks) out["label"] = range.label();
  return out;
}

}  // namespace reverie
