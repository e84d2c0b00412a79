#pragma once
/// Plots as inline SVG, without script or font. Colours are CSS variables (plot.css), so that light
/// and dark share one drawing. A page holds each plot in two sizes and shows the one that fits; a
/// file holds one.

#include <optional>
#include <string>
#include <vector>

namespace reverie {

inline constexpr int kPlotColors = 6;     ///< .series-0 to .series-5 of plot.css
inline constexpr int kContextColor = -1;  ///< grey: what others are compared with
inline constexpr size_t kMostLines = 5;   ///< in one panel; more become small multiples

struct PlotPoint {
  double x = 0, y = 0;
};
struct PlotInterval {
  double x = 0, low = 0, high = 0;
};

/// A dashed line at a known value, such as the loss of uniform guessing.
struct PlotReference {
  double value = 0;
  std::string label;
};

/// One model: thin lines for its runs, a thick one for their mean, a band for its interval, its name
/// at the line's end. Points that are not finite interrupt a line.
struct PlotSeries {
  std::string title;
  std::string label;  ///< "LEAKS", or empty; such a series is dashed
  int color = 0;
  std::vector<std::vector<PlotPoint>> runs = {};
  std::vector<PlotPoint> mean = {};
  bool dashed = false;  ///< as a series with a label is
  std::vector<PlotInterval> band = {};
  /// Among small multiples it has no panel of its own, but stands in that of the series of this
  /// number.
  std::optional<size_t> panel_of = {};
};
struct LinePlot {
  std::string title, x_label, y_label;
  double x_end = 0;  ///< a linear x axis goes from x_begin to here, or farther where there is data
  std::vector<PlotSeries> series = {};
  std::optional<PlotReference> reference = {};  ///< across the plot, at a value of y
  bool log_x = false, log_y = false;            ///< only where all values are positive
  double x_begin = 0;
  std::optional<double> break_y = {};  ///< above it the y axis is logarithmic, and marked as broken
  /// With more than kMostLines series: the one that stands in every panel, in grey.
  std::optional<size_t> compared_with = {};
  std::vector<double> reached_y = {};  ///< the y axis reaches these values in any case
  bool whole_x = false;                ///< x counts something: ticks at whole numbers alone
  std::string dashed = {};             ///< what dashed curves are, for the caption of panels
};
/// Two bars for each model, one below the other, with their values as text. NaN: said instead of a
/// bar. Without text: no bar.
struct PlotBar {
  double value = 0;
  std::optional<double> sd;
  std::string text;  ///< "0.802 ± 0.010"
};
struct BarPair {
  std::string title;
  std::string label;
  int color = 0;
  PlotBar filled, outlined;
};
struct BarPlot {
  std::string title, x_label;
  std::vector<BarPair> pairs = {};
  std::optional<PlotReference> reference = {};  ///< upright, at a value of x
};

/// A plot beside a Markdown file.
struct PlotFile {
  std::string name, caption, svg;
};

/// For a page: as wide as the text, or small multiples with common axes. Empty without a finite
/// point.
std::string line_figure(const LinePlot& plot);
std::string bar_figure(const BarPlot& plot);
/// A small panel, for a grid of them (class "panels").
std::string line_panel(const LinePlot& plot);
std::string panel_grid(const std::vector<std::string>& panels);  ///< "" where all are empty
/// As a file that stands for itself.
/// `columns`: of small multiples; 2 can be read 400 pixels wide.
std::string line_plot_file(const LinePlot& plot, int columns = 3);
std::string bar_plot_file(const BarPlot& plot);

/// One drawing, `width` units wide.
std::string draw_line_plot(const LinePlot& plot, double width = 380, double height = 290,
                           const std::string& classes = "");
std::string draw_bar_plot(const BarPlot& plot, double width = 380, const std::string& classes = "");

/// Means of `points` (ordered by x) over `buckets` equal parts of [0, x_end]; a part without finite
/// points is left out.
std::vector<PlotPoint> bucket_means(const std::vector<PlotPoint>& points, double x_end,
                                    int buckets);

/// Positions as near to `wanted` as they can be while `distance` apart and within [low, high]; in
/// the order of `wanted`.
std::vector<double> spread_labels(const std::vector<double>& wanted, double distance, double low,
                                  double high);

}  // namespace reverie
