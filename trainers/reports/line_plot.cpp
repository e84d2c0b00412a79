#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "trainers/reports/plot_scale.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/reports/svg_text.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

constexpr double kLabelHeight = 15;
constexpr size_t kMostHits = 60;  // places with a value to hover over, in one curve

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};
struct Extents {
  Extent x, y;
};

Extents extents_of(const LinePlot& plot) {
  Extents e;
  const auto add = [&](double x, double y) {
    if (!std::isfinite(y) || (plot.log_y && y <= 0) || (plot.log_x && x <= 0)) return;
    e.x.add(x);
    e.y.add(y);
  };
  for (const PlotSeries& series : plot.series) {
    for (const auto& run : series.runs)
      for (const PlotPoint& p : run) add(p.x, p.y);
    for (const PlotPoint& p : series.mean) add(p.x, p.y);
    for (const PlotInterval& i : series.band) add(i.x, i.low), add(i.x, i.high);
  }
  if (!e.y.empty() && plot.reference) e.y.add(plot.reference->value);
  if (!e.y.empty())
    for (const double value : plot.reached_y) e.y.add(value);
  return e;
}

Scale x_scale(const LinePlot& plot, const Extents& e, double from, double to) {
  if (plot.log_x) return Scale::logarithmic(e.x.low, e.x.high, from, to);
  return Scale::linear(plot.x_begin, std::max({e.x.high, plot.x_end, plot.x_begin + 1e-9}), from,
                       to);
}
Scale y_scale(const LinePlot& plot, const Extents& e, double from, double to) {
  if (plot.log_y) return Scale::logarithmic(e.y.low / 1.1, e.y.high * 1.1, from, to);
  const double high = plot.break_y ? std::min(e.y.high, *plot.break_y) : e.y.high;
  const double pad = std::max(0.06 * (high - e.y.low), 1e-9 + 1e-6 * std::abs(high));
  // Losses end at 0; what goes below it has room there, too.
  const double low = e.y.low < 0 ? e.y.low - pad : std::max(0.0, e.y.low - pad);
  if (plot.break_y && e.y.high > *plot.break_y)
    return Scale::broken(low, *plot.break_y, e.y.high * 1.2, from, to);
  return Scale::linear(low, high + pad, from, to);
}

bool drawable(const LinePlot& plot, double x, double y) {
  return std::isfinite(y) && (!plot.log_y || y > 0) && (!plot.log_x || x > 0);
}

std::string curve(const LinePlot& plot, const std::vector<PlotPoint>& points, const Scale& x,
                  const Scale& y, const std::string& classes) {
  std::string path, dots;
  size_t pieces = 0, length = 0;  // of the piece
  const auto end_piece = [&](const PlotPoint* last) {
    // A line of one point would not be seen.
    if (length == 1 && last)
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" class=\"dot {}\"/>\n",
                          x(last->x), y(last->y), classes);
    length = 0;
  };
  const PlotPoint* before = nullptr;
  for (const PlotPoint& p : points) {
    if (!drawable(plot, p.x, p.y)) {
      end_piece(before);
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", length ? "L" : "M", x(p.x), y(p.y));
    pieces += length == 0;
    ++length;
    before = &p;
  }
  end_piece(before);
  if (pieces == 0) return "";
  return fmt::format("<path d=\"{}\" class=\"curve {}\"/>\n", path, classes) + dots;
}

std::string band(const LinePlot& plot, const PlotSeries& series, const Scale& x, const Scale& y,
                 const std::string& color) {
  std::string there, back;
  for (const PlotInterval& i : series.band) {
    if (!drawable(plot, i.x, i.low) || !drawable(plot, i.x, i.high)) continue;
    there += fmt::format("{}{:.1f} {:.1f}", there.empty() ? "M" : "L", x(i.x), y(i.high));
    back = fmt::format("L{:.1f} {:.1f}", x(i.x), y(i.low)) + back;
  }
  if (there.empty()) return "";
  return fmt::format("<path d=\"{}{}Z\" class=\"band {}\"/>\n", there, back, color);
}

std::string hits(const LinePlot& plot, const PlotSeries& series, const Scale& x, const Scale& y,
                 const std::string& color) {
  std::string out;
  const size_t stride = std::max<size_t>(1, (series.mean.size() + kMostHits - 1) / kMostHits);
  for (size_t i = 0; i < series.mean.size(); ++i) {
    const PlotPoint& p = series.mean[i];
    if ((i % stride != 0 && i + 1 != series.mean.size()) || !drawable(plot, p.x, p.y)) continue;
    std::string interval;
    for (const PlotInterval& b : series.band)
      if (b.x == p.x) interval = fmt::format(" [{:.4g}, {:.4g}]", b.low, b.high);
    const std::string label = series.label.empty() ? "" : " " + series.label;
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" class=\"hit {}\"><title>{}</title></circle>\n",
        x(p.x), y(p.y), color,
        escape_html(fmt::format("{}{}, {} {:.6g}: {:.4g}{}", series.title, label, plot.x_label, p.x,
                                p.y, interval)));
  }
  return out;
}

std::string color_class(const PlotSeries& series) {
  return series.color == kContextColor ? "series-context"
                                       : fmt::format("series-{}", series.color % kPlotColors);
}

// Names at the right ends of the lines, pushed apart where lines end close together.
std::string end_labels(const LinePlot& plot, const Scale& x, const Scale& y, double room) {
  struct End {
    double x, y;
    std::string color;
    std::vector<std::string> lines;
    std::string mark, full;
  };
  std::vector<End> ends;
  for (const PlotSeries& series : plot.series) {
    const auto last = std::find_if(series.mean.rbegin(), series.mean.rend(),
                                   [&](const auto& p) { return drawable(plot, p.x, p.y); });
    if (last == series.mean.rend() || series.title.empty()) continue;
    ends.push_back({x(last->x), y(last->y), color_class(series),
                    fit_lines(series.title, room, 12, true), series.label, series.title});
  }
  std::stable_sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.y < b.y; });
  std::vector<double> wanted;
  for (const End& end : ends)
    for (size_t i = 0; i < end.lines.size() + !end.mark.empty(); ++i)
      wanted.push_back(std::max(end.y, wanted.empty() ? end.y : wanted.back()));
  const auto placed = spread_labels(wanted, kLabelHeight, y.to() + 4, y.from() - 2);
  std::string out;
  size_t at = 0;
  for (const End& end : ends) {
    out += svg_line(end.x + 3, end.y, x.to() + 12, placed[at], "leader " + end.color);
    std::string lines;
    for (const std::string& line : end.lines)
      lines += svg_text(x.to() + 16, placed[at++] + 4, line, "end");
    if (!end.mark.empty()) lines += svg_text(x.to() + 16, placed[at++] + 4, end.mark, "end mark");
    out += "<g><title>" + escape_html(end.full) + "</title>" + lines + "</g>\n";
  }
  return out;
}

struct Frame {
  double width, height;
  std::string classes;
  // One of many panels: without what the caption says of all (axis labels, names at line ends), and
  // with this beside the title.
  bool panel = false;
  std::string mark = "";
};

std::vector<Tick> x_ticks(const LinePlot& plot, const Scale& x) {
  std::vector<Tick> ticks = x.ticks(x.to() - x.from() > 600 ? 9 : 5);
  if (!plot.whole_x) return ticks;
  std::erase_if(ticks,
                [](const Tick& t) { return std::abs(t.value - std::round(t.value)) > 1e-9; });
  for (Tick& tick : ticks) tick.text = tick_text(tick.value, 1);
  return ticks;
}

std::string axes(const LinePlot& plot, const Scale& x, const Scale& y, const Frame& frame) {
  std::string out;
  if (y.is_broken()) {
    const double at = y.place_of_break();
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"beyond\"/>\n",
        x.from(), y.to(), x.to() - x.from(), at - y.to());
    out += svg_line(x.from(), at, x.to(), at, "break");
    if (!frame.panel)
      out += svg_text(x.to() - 4, y.to() + 13, "axis broken: logarithmic above", "note right");
  }
  for (const Tick& tick : y.ticks(7)) {
    out += svg_line(x.from(), y(tick.value), x.to(), y(tick.value), "grid");
    out += svg_text(x.from() - 7, y(tick.value) + 4, tick.text, "tick right");
  }
  for (const Tick& tick : x_ticks(plot, x)) {
    out += svg_line(x(tick.value), y.from(), x(tick.value), y.from() + 4, "axis");
    out += svg_text(x(tick.value), y.from() + 18, tick.text, "tick middle");
  }
  out += svg_line(x.from(), y.from(), x.to(), y.from(), "axis");
  if (!frame.panel)
    out += svg_text((x.from() + x.to()) / 2, frame.height - 6, plot.x_label, "tick middle");
  if (plot.reference && drawable(plot, 1, plot.reference->value)) {
    const double at = y(plot.reference->value);
    out += svg_line(x.from(), at, x.to(), at, "reference");
    if (!frame.panel) out += svg_text(x.to() - 2, at - 5, plot.reference->label, "note right");
  }
  return out;
}

std::string draw(const LinePlot& plot, const Frame& frame, const Extents& e) {
  double longest = 0;
  for (const PlotSeries& series : plot.series)
    longest = std::max(longest, text_width(series.title, 12, true));
  const double room = frame.panel || longest == 0
                          ? 0
                          : std::clamp(longest, 50.0, frame.width > 600 ? 260.0 : 118.0);
  const double from = frame.height - (frame.panel ? 24 : 42), top = 34;
  const Scale y = y_scale(plot, e, from, top);
  double left = 0;
  for (const Tick& tick : y.ticks(7)) left = std::max(left, text_width(tick.text));
  const Scale x = x_scale(plot, e, left + 12, frame.width - room - 22);

  std::string out = open_svg(
      frame.width, frame.height,
      fmt::format("{}: {} against {}", plot.title, plot.y_label, plot.x_label), frame.classes);
  const std::string& unit = frame.panel ? frame.mark : plot.y_label;
  const std::string title = fit_text(plot.title, frame.width - text_width(unit) - 12, 14, true);
  out += fmt::format(
      "<text x=\"0\" y=\"15\" class=\"title\">{}<tspan class=\"{}\" dx=\"8\">{}</tspan></text>\n",
      escape_html(title), frame.panel ? "mark" : "unit", escape_html(unit));
  out += axes(plot, x, y, frame);
  for (const PlotSeries& series : plot.series) out += band(plot, series, x, y, color_class(series));
  for (const bool mean : {false, true})  // means above all single runs
    for (const PlotSeries& series : plot.series) {
      const std::string kind =
          color_class(series) + (series.label.empty() && !series.dashed ? "" : " dashed");
      if (mean)
        out += curve(plot, series.mean, x, y, "mean " + kind);
      else if (series.runs.size() > 1)
        for (const auto& run : series.runs) out += curve(plot, run, x, y, "run " + kind);
    }
  if (!frame.panel) out += end_labels(plot, x, y, room);
  for (const PlotSeries& series : plot.series) out += hits(plot, series, x, y, color_class(series));
  return out + "</svg>\n";
}

// One panel a series, all with the same axes; the one they are compared with in grey.
std::vector<std::string> multiples(const LinePlot& plot, double width, double height) {
  const Extents e = extents_of(plot);
  std::vector<std::string> out;
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const PlotSeries& own = plot.series[i];
    const bool in_another = own.panel_of && own.panel_of != plot.compared_with;
    if (plot.compared_with == i || in_another) continue;
    LinePlot panel = plot;
    panel.series.clear();
    if (plot.compared_with) {
      panel.series.push_back(plot.series[*plot.compared_with]);
      panel.series[0].color = kContextColor;
      panel.series[0].runs.clear();
    }
    panel.series.push_back(own);
    for (const PlotSeries& other : plot.series)
      if (other.panel_of == i) panel.series.push_back(other);
    panel.title = own.title;
    out.push_back(draw(panel, {width, height, "", true, own.label}, e));
  }
  return out;
}

bool needs_multiples(const LinePlot& plot) {
  return plot.series.size() > kMostLines;
}

std::string caption_of_multiples(const LinePlot& plot) {
  std::string out = plot.title + ": " + plot.y_label + " against " + plot.x_label;
  if (plot.compared_with) out += "; in grey: " + plot.series[*plot.compared_with].title;
  if (!plot.dashed.empty()) out += "; dashed: " + plot.dashed;
  if (plot.reference) out += "; dotted: " + plot.reference->label;
  if (plot.break_y && extents_of(plot).y.high > *plot.break_y)
    out += "; logarithmic above the dashed line";
  return out;
}

// In one drawing no two lines share a colour, whatever they have elsewhere.
LinePlot with_distinct_colors(LinePlot plot) {
  std::set<int> used;
  for (PlotSeries& series : plot.series) {
    if (series.color == kContextColor) continue;
    series.color %= kPlotColors;
    for (int i = 0; i < kPlotColors && used.contains(series.color); ++i)
      series.color = (series.color + 1) % kPlotColors;
    used.insert(series.color);
  }
  return plot;
}

}  // namespace

std::string draw_line_plot(const LinePlot& plot, double width, double height,
                           const std::string& classes) {
  const Extents e = extents_of(plot);
  if (e.y.empty()) return "";
  return draw(with_distinct_colors(plot), {width, height, classes}, e);
}

std::string line_panel(const LinePlot& plot) {
  const std::string drawn = draw_line_plot(plot, 380, 260);
  return drawn.empty() ? "" : "<div class=\"panel\">\n" + drawn + "</div>\n";
}

std::string panel_grid(const std::vector<std::string>& panels) {
  std::string out;
  for (const std::string& panel : panels) out += panel;
  return out.empty() ? "" : "<div class=\"panels\">\n" + out + "</div>\n";
}

std::string line_figure(const LinePlot& plot) {
  if (extents_of(plot).y.empty()) return "";
  if (!needs_multiples(plot))
    return "<div class=\"figure\">\n" + draw_line_plot(plot, 1120, 400, "wide") +
           draw_line_plot(plot, 380, 320, "narrow") + "</div>\n";
  std::vector<std::string> panels;
  for (const std::string& drawn : multiples(plot, 350, 220))
    panels.push_back("<div class=\"panel\">\n" + drawn + "</div>\n");
  return "<p class=\"quiet\">" + escape_html(caption_of_multiples(plot)) + "</p>\n" +
         panel_grid(panels);
}

std::string line_plot_file(const LinePlot& plot, int columns) {
  if (extents_of(plot).y.empty()) return "";
  if (needs_multiples(plot)) {
    const double width = columns < 3 ? 200 : 270, height = columns < 3 ? 150 : 190;
    return svg_file(caption_of_multiples(plot), multiples(plot, width, height), columns, width,
                    height);
  }
  const double width = columns < 3 ? 420 : 840, height = columns < 3 ? 320 : 380;
  return svg_file("", {draw_line_plot(plot, width, height)}, 1, width, height);
}

}  // namespace reverie
