#include "trainers/reports/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "trainers/reports/html.h"

namespace reverie {
namespace {

constexpr double kCharacterWidth = 7.2;  // of an 11-unit bold sans-serif, at most about
constexpr double kLabelHeight = 13;

// A linear map from values to units of the drawing.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  double operator()(double value) const {
    return from + (value - low) / (high - low) * (to - from);
  }
};

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

std::string text(double x, double y, const std::string& content,
                 const std::string& attributes = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}{}>{}</text>\n", x, y,
                     attributes.empty() ? "" : " ", attributes, escape_html(content));
}
std::string line(double x1, double y1, double x2, double y2, const std::string& kind) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, kind);
}

std::string open_svg(double height, const std::string& title) {
  const std::string name = escape_html(title);
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n<title>{}</title>\n",
      kPlotWidth, height, name, name);
}

std::string path(const std::vector<PlotPoint>& points, const Scale& x, const Scale& y) {
  std::string out;
  bool pen_down = false;
  for (const PlotPoint& p : points) {
    if (!std::isfinite(p.y)) {
      pen_down = false;
      continue;
    }
    out += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x(p.x), y(p.y));
    pen_down = true;
  }
  return out;
}

std::string tick_text(double value, double step) {
  if (std::abs(value) >= 10000) return fmt::format("{:.6g}k", value / 1000);
  const int decimals = step >= 1 ? 0 : std::min(6, int(std::ceil(-std::log10(step) - 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}
std::vector<std::string> tick_texts(const std::vector<double>& ticks) {
  std::vector<std::string> texts;
  for (const double tick : ticks)
    texts.push_back(tick_text(tick, ticks.size() > 1 ? ticks[1] - ticks[0] : 1));
  return texts;
}

const PlotPoint* last_finite(const std::vector<PlotPoint>& points) {
  for (auto p = points.rbegin(); p != points.rend(); ++p)
    if (std::isfinite(p->y)) return &*p;
  return nullptr;
}

int color_class(int color) {
  return ((color % kPlotColors) + kPlotColors) % kPlotColors;
}

// The longest title that fits `room` units; the label goes on a line of its own.
std::string shortened(const std::string& title, double room) {
  const size_t most = size_t(std::max(4.0, room / kCharacterWidth));
  if (title.size() <= most) return title;
  return valid_utf8(title.substr(0, most - 1)) + "\u2026";
}

// Names at the right ends of the lines, pushed apart where lines end close together.
std::string end_labels(const LinePlot& plot, const Scale& x, const Scale& y, double room) {
  struct End {
    const PlotSeries* series;
    double x, y;
    std::string text;
  };
  std::vector<End> ends;
  for (const PlotSeries& series : plot.series)
    if (const PlotPoint* p = last_finite(series.mean)) {
      ends.push_back({&series, x(p->x), y(p->y), shortened(series.title, room)});
      if (!series.label.empty()) ends.push_back({&series, x(p->x), y(p->y) + 0.01, series.label});
    }
  std::stable_sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.y < b.y; });
  std::vector<double> wanted;
  for (const End& end : ends) wanted.push_back(end.y);
  const auto placed = spread_labels(wanted, kLabelHeight, y.to + 4, y.from - 2);
  std::string out;
  for (size_t i = 0; i < ends.size(); ++i) {
    const End& end = ends[i];
    const std::string kind = fmt::format("series-{}", color_class(end.series->color));
    const bool is_label = end.text == end.series->label;
    if (!is_label) out += line(end.x + 2, end.y, x.to + 10, placed[i], "leader " + kind);
    out += text(x.to + 13, placed[i] + 3.8, end.text,
                fmt::format("class=\"end {}{}\"", kind, is_label ? " mark" : ""));
  }
  return out;
}

std::string draw_bar(const PlotBar& bar, const Scale& x, double y, double height,
                     const std::string& kind, const std::string& label) {
  if (!std::isfinite(bar.value))
    return text(x.from + 4, y + height - 1.5, "not finite", "class=\"value\"");
  std::string out = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"{}\"/>\n", x.from,
      y, std::max(0.5, x(bar.value) - x.from), height, kind);
  double end = x(bar.value);
  if (bar.sd && *bar.sd > 0) {
    const double middle = y + height / 2;
    end = x(bar.value + *bar.sd);
    out += line(x(std::max(x.low, bar.value - *bar.sd)), middle, end, middle, "deviation");
  }
  std::string content = escape_html(bar.text);
  if (!label.empty()) content += " <tspan class=\"mark\">" + escape_html(label) + "</tspan>";
  out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"value\">{}</text>\n", end + 4,
                     y + height - 1.5, content);
  return out;
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int most) {
  if (!(high > low) || !std::isfinite(high - low) || most < 2) return {low};
  double step = std::pow(10, std::floor(std::log10((high - low) / most)));
  for (const double factor : {2.0, 2.5, 2.0, 2.0, 2.5, 2.0}) {  // 1, 2, 5, 10, 20, 50, 100
    if (std::floor(high / step + 1e-9) - std::ceil(low / step - 1e-9) + 1 <= most) break;
    step *= factor;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i)
    ticks.push_back(i * step + 0.0);  // no -0
  return ticks;
}

std::vector<PlotPoint> bucket_means(const std::vector<PlotPoint>& points, double x_end,
                                    int buckets) {
  struct Sum {
    double x = 0, y = 0;
    int n = 0;
  };
  std::vector<Sum> sums(size_t(std::max(1, buckets)));
  for (const PlotPoint& p : points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y) || p.x < 0 || p.x > x_end) continue;
    // The last bucket holds its upper end, too.
    const auto at =
        std::min(sums.size() - 1, size_t(x_end > 0 ? p.x / x_end * double(sums.size()) : 0));
    sums[at].x += p.x;
    sums[at].y += p.y;
    ++sums[at].n;
  }
  std::vector<PlotPoint> means;
  for (const Sum& sum : sums)
    if (sum.n > 0) means.push_back({sum.x / sum.n, sum.y / sum.n});
  return means;
}

std::vector<double> spread_labels(const std::vector<double>& wanted, double distance, double low,
                                  double high) {
  const size_t n = wanted.size();
  if (n == 0) return {};
  distance = n > 1 ? std::min(distance, (high - low) / double(n - 1)) : distance;
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  // Groups of touching labels share their displacement (pool adjacent violators: the nearest
  // positions in least squares).
  struct Group {
    double sum = 0;  // of wanted[i] - distance * (place in the order)
    size_t count = 0;
    double position() const { return sum / double(count); }
  };
  std::vector<Group> groups;
  for (size_t place = 0; place < n; ++place) {
    groups.push_back({wanted[order[place]] - distance * double(place), 1});
    while (groups.size() > 1 && groups[groups.size() - 2].position() > groups.back().position()) {
      groups[groups.size() - 2].sum += groups.back().sum;
      groups[groups.size() - 2].count += groups.back().count;
      groups.pop_back();
    }
  }
  std::vector<double> placed(n);
  size_t place = 0;
  const double highest = high - distance * double(n - 1);
  for (const Group& group : groups)
    for (size_t i = 0; i < group.count; ++i, ++place)
      placed[order[place]] =
          std::clamp(group.position(), low, std::max(low, highest)) + distance * double(place);
  return placed;
}

std::string draw_line_plot(const LinePlot& plot) {
  Extent xs, ys;
  size_t longest = 0;
  for (const PlotSeries& series : plot.series) {
    longest = std::max(longest, series.title.size());
    for (const auto& run : series.runs)
      for (const PlotPoint& p : run) xs.add(p.x), ys.add(p.y);
    for (const PlotPoint& p : series.mean) xs.add(p.x), ys.add(p.y);
  }
  if (ys.empty()) return "";
  if (plot.reference) ys.add(plot.reference->value);
  const double height = 290, room = std::clamp(double(longest) * kCharacterWidth, 44.0, 125.0);
  const double pad = std::max(0.05 * (ys.high - ys.low), 1e-6);
  const Scale x{0, std::max({xs.high, plot.x_end, 1e-9}), 34, kPlotWidth - room - 16};
  // Losses end at 0; what goes below it has room there, too.
  const double low = ys.low < 0 ? ys.low - pad : std::max(0.0, ys.low - pad);
  const Scale y{low, ys.high + pad, height - 36, 28};

  std::string out =
      open_svg(height, fmt::format("{}: {} against {}", plot.title, plot.y_label, plot.x_label));
  out += fmt::format(
      "<text x=\"0\" y=\"14\" class=\"title\">{}<tspan class=\"unit\" dx=\"8\">{}</tspan></text>\n",
      escape_html(plot.title), escape_html(plot.y_label));
  const auto y_ticks = axis_ticks(y.low, y.high, 7), x_ticks = axis_ticks(x.low, x.high, 5);
  const auto y_texts = tick_texts(y_ticks), x_texts = tick_texts(x_ticks);
  for (size_t i = 0; i < y_ticks.size(); ++i) {
    out += line(x.from, y(y_ticks[i]), x.to, y(y_ticks[i]), "grid");
    out += text(x.from - 6, y(y_ticks[i]) + 3.8, y_texts[i], "class=\"tick right\"");
  }
  for (size_t i = 0; i < x_ticks.size(); ++i) {
    out += line(x(x_ticks[i]), y.from, x(x_ticks[i]), y.from + 4, "axis");
    out += text(x(x_ticks[i]), y.from + 16, x_texts[i], "class=\"tick middle\"");
  }
  out += line(x.from, y.from, x.to, y.from, "axis");
  out += text((x.from + x.to) / 2, height - 5, plot.x_label, "class=\"tick middle\"");
  if (plot.reference) {
    out += line(x.from, y(plot.reference->value), x.to, y(plot.reference->value), "reference");
    out += text(x.to, y(plot.reference->value) - 4, plot.reference->label, "class=\"note right\"");
  }
  for (const bool mean : {false, true})  // means above all single runs
    for (const PlotSeries& series : plot.series) {
      const std::string kind = fmt::format("series-{}{}", color_class(series.color),
                                           series.label.empty() && !series.dashed ? "" : " dashed");
      if (mean) {
        out += fmt::format("<path d=\"{}\" class=\"mean {}\"/>\n", path(series.mean, x, y), kind);
      } else if (series.runs.size() > 1) {
        for (const auto& run : series.runs)
          out += fmt::format("<path d=\"{}\" class=\"run {}\"/>\n", path(run, x, y), kind);
      }
    }
  return out + end_labels(plot, x, y, room) + "</svg>\n";
}

std::string draw_bar_plot(const BarPlot& plot) {
  if (plot.pairs.empty()) return "";
  Extent values;
  values.add(0);
  size_t longest = 0;
  for (const BarPair& pair : plot.pairs)
    for (const PlotBar* bar : {&pair.filled, &pair.outlined}) {
      values.add(bar->value + bar->sd.value_or(0));
      // A label is needed where the longest bar ends, at most.
      longest =
          std::max(longest, bar->text.size() + (pair.label.empty() ? 0 : pair.label.size() + 1));
    }
  if (plot.reference) values.add(plot.reference->value);
  const double top = 40, row = 46, bar_height = 11;
  const double bottom = top + row * double(plot.pairs.size()), height = bottom + 34;
  const double room = std::clamp(double(longest) * kCharacterWidth, 40.0, 150.0);
  const Scale x{0, std::max(values.high, 1e-9), 1, kPlotWidth - room - 4};

  std::string out = open_svg(height, fmt::format("{}: {}", plot.title, plot.x_label));
  out += text(0, 14, plot.title, "class=\"title\"");
  const auto ticks = axis_ticks(x.low, x.high, 8);
  const auto texts = tick_texts(ticks);
  for (size_t i = 0; i < ticks.size(); ++i) {
    out += line(x(ticks[i]), top, x(ticks[i]), bottom, i == 0 ? "axis" : "grid");
    out += text(x(ticks[i]), bottom + 13, texts[i],
                i == 0 ? "class=\"tick\"" : "class=\"tick middle\"");
  }
  out += text(x.from, height - 4, plot.x_label, "class=\"tick\"");
  if (plot.reference) {
    const double at = x(plot.reference->value);
    out += line(at, top - 6, at, bottom, "reference");
    const bool room_on_the_left = at > kCharacterWidth * double(plot.reference->label.size());
    out += text(at + (room_on_the_left ? 4 : -4), top - 10, plot.reference->label,
                room_on_the_left ? "class=\"note right\"" : "class=\"note\"");
  }
  double y = top;
  for (const BarPair& pair : plot.pairs) {
    const std::string kind = fmt::format("series-{}", color_class(pair.color));
    out += text(x.from + 4, y + 13, pair.title, "class=\"row " + kind + "\"");
    out += draw_bar(pair.filled, x, y + 17, bar_height, "filled " + kind, pair.label);
    out += draw_bar(pair.outlined, x, y + 17 + bar_height + 2, bar_height, "outlined " + kind,
                    pair.label);
    y += row;
  }
  return out + "</svg>\n";
}

}  // namespace reverie
