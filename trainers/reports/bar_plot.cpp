#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainers/reports/plot_scale.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/reports/svg_text.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

constexpr double kTop = 46, kRow = 50, kBar = 12;

double height_of(const BarPlot& plot) {
  return kTop + kRow * double(plot.pairs.size()) + 38;
}

std::string draw_bar(const BarPlot& plot, const BarPair& pair, const PlotBar& bar, const Scale& x,
                     double y, const std::string& kind) {
  if (bar.text.empty()) return "";
  if (!std::isfinite(bar.value))
    return svg_text(x.from() + 4, y + kBar - 1.5, "not finite", "value");
  double end = x(bar.value);
  std::string out = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "class=\"{}\"><title>{}</title></rect>\n",
      x.from(), y, std::max(0.5, end - x.from()), kBar, kind,
      escape_html(fmt::format("{}{}, {}: {}", pair.title,
                              pair.label.empty() ? "" : " " + pair.label, plot.x_label, bar.text)));
  if (bar.sd && *bar.sd > 0) {
    const double middle = y + kBar / 2;
    end = x(bar.value + *bar.sd);
    out += svg_line(x(std::max(x.low(), bar.value - *bar.sd)), middle, end, middle, "deviation");
  }
  std::string content = escape_html(bar.text);
  if (!pair.label.empty())
    content += " <tspan class=\"mark\">" + escape_html(pair.label) + "</tspan>";
  return out + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"value\">{}</text>\n", end + 5,
                           y + kBar - 1.5, content);
}

}  // namespace

std::string draw_bar_plot(const BarPlot& plot, double width, const std::string& classes) {
  if (plot.pairs.empty()) return "";
  double highest = plot.reference ? plot.reference->value : 1e-9, longest = 0;
  for (const BarPair& pair : plot.pairs)
    for (const PlotBar* bar : {&pair.filled, &pair.outlined}) {
      if (std::isfinite(bar->value)) highest = std::max(highest, bar->value + bar->sd.value_or(0));
      longest = std::max(longest, text_width(bar->text + " " + pair.label, 12, true));
    }
  const double bottom = kTop + kRow * double(plot.pairs.size()), height = height_of(plot);
  const Scale x = Scale::linear(0, highest, 1, width - longest - 10);

  std::string out =
      open_svg(width, height, fmt::format("{}: {}", plot.title, plot.x_label), classes);
  out += svg_text(0, 15, fit_text(plot.title, width, 14, true), "title");
  const auto ticks = x.ticks(width > 600 ? 10 : 6);
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double at = x(ticks[i].value);
    out += svg_line(at, kTop, at, bottom, i == 0 ? "axis" : "grid");
    out += svg_text(at, bottom + 15, ticks[i].text, i == 0 ? "tick" : "tick middle");
  }
  out += svg_text(x.from(), height - 5, plot.x_label, "tick");
  if (plot.reference) {
    const double at = x(plot.reference->value);
    out += svg_line(at, kTop - 6, at, bottom, "reference");
    const bool room_on_the_left = at > text_width(plot.reference->label) + 8;
    out += svg_text(at + (room_on_the_left ? 4 : -4), kTop - 11, plot.reference->label,
                    room_on_the_left ? "note right" : "note");
  }
  double y = kTop;
  for (const BarPair& pair : plot.pairs) {
    const std::string kind = fmt::format("series-{}", pair.color % kPlotColors);
    out += svg_text(x.from() + 4, y + 14, fit_text(pair.title, width - 8, 12, true), "row");
    out += draw_bar(plot, pair, pair.filled, x, y + 19, "filled " + kind);
    out += draw_bar(plot, pair, pair.outlined, x, y + 19 + kBar + 2, "outlined " + kind);
    y += kRow;
  }
  return out + "</svg>\n";
}

std::string bar_figure(const BarPlot& plot) {
  if (plot.pairs.empty()) return "";
  return "<div class=\"figure\">\n" + draw_bar_plot(plot, 1120, "wide") +
         draw_bar_plot(plot, 380, "narrow") + "</div>\n";
}

std::string bar_plot_file(const BarPlot& plot) {
  if (plot.pairs.empty()) return "";
  return svg_file("", {draw_bar_plot(plot, 840)}, 1, 840, height_of(plot));
}

}  // namespace reverie
