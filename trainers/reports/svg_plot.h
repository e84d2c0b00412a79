#pragma once
// Two kinds of plots as inline SVG. Colours are CSS variables of the page (report_style), so that
// light and dark share one drawing; a plot is kPlotWidth units wide and scales with its box.

#include <optional>
#include <string>
#include <vector>

namespace reverie {

inline constexpr double kPlotWidth = 380;
inline constexpr int kPlotColors = 8;  // .series-0 to .series-7 of the style sheet

struct PlotPoint {
  double x = 0, y = 0;
};

// A dashed line at a known value, such as the loss of uniform guessing.
struct PlotReference {
  double value = 0;
  std::string label;
};

// One model: thin lines for its runs, a thick one for their mean, its name at the line's end.
// Points that are not finite interrupt a line.
struct PlotSeries {
  std::string title;
  std::string label;  // "LEAKS", or empty; such a series is dashed
  int color = 0;
  std::vector<std::vector<PlotPoint>> runs;
  std::vector<PlotPoint> mean;
  bool dashed = false;  // as a series with a label is
};
struct LinePlot {
  std::string title, x_label, y_label;
  double x_end = 0;  // the x axis goes from 0 to here, or farther where there is data
  std::vector<PlotSeries> series;
  std::optional<PlotReference> reference;  // across the plot, at a value of y
};
std::string draw_line_plot(const LinePlot& plot);

// Two bars for each model, one below the other, with their values as text. NaN: no bar.
struct PlotBar {
  double value = 0;
  std::optional<double> sd;
  std::string text;  // "0.802 ± 0.010"
};
struct BarPair {
  std::string title;
  std::string label;
  int color = 0;
  PlotBar filled, outlined;
};
struct BarPlot {
  std::string title, x_label;
  std::vector<BarPair> pairs;
  std::optional<PlotReference> reference;  // upright, at a value of x
};
std::string draw_bar_plot(const BarPlot& plot);

// Round values (1, 2 or 5 times a power of ten apart) in [low, high]: at most `most` of them.
std::vector<double> axis_ticks(double low, double high, int most);

// Means of `points` (ordered by x) over `buckets` equal parts of [0, x_end]; a part without finite
// points is left out.
std::vector<PlotPoint> bucket_means(const std::vector<PlotPoint>& points, double x_end,
                                    int buckets);

// Positions as near to `wanted` as they can be while `distance` apart and within [low, high]; in
// the order of `wanted`.
std::vector<double> spread_labels(const std::vector<double>& wanted, double distance, double low,
                                  double high);

}  // namespace reverie
