#include "trainers/reports/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "support/markup.h"
#include "support/tests_directory.h"
#include "trainers/reports/plot_scale.h"
#include "trainers/reports/svg_text.h"

namespace reverie {
namespace {
using namespace reverie::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Plot, TicksAreRoundAndWithin) {
  EXPECT_THAT(axis_ticks(0, 2000, 5), ElementsAre(0, 500, 1000, 1500, 2000));
  EXPECT_THAT(axis_ticks(0.6, 4.4, 5), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(axis_ticks(-1, 1, 5), ElementsAre(-1, -0.5, 0, 0.5, 1));
  EXPECT_FALSE(std::signbit(axis_ticks(0, 1, 5)[0]));
  for (const double high : {0.003, 0.7, 5.3, 98.0, 12345.0, 7e9})
    for (int most = 3; most < 9; ++most) {
      const auto ticks = axis_ticks(0, high, most);
      EXPECT_LE(int(ticks.size()), most) << high;
      EXPECT_GE(ticks.size(), 2u) << high;
      EXPECT_LE(ticks.back(), high * (1 + 1e-9));
    }
  EXPECT_EQ(axis_ticks(3, 3, 5).size(), 1u);
}

TEST(Plot, NeighbouringTicksReadDifferently) {
  EXPECT_EQ(tick_text(0.0003, 5e-5), "0.0003");
  EXPECT_EQ(tick_text(4.517461, 1e-6), "4.517461");
  EXPECT_EQ(tick_text(4.5174, 5e-5), "4.5174");
  EXPECT_EQ(tick_text(1.5, 0.5), "1.5");
}

TEST(Plot, BucketsAverageAndLeaveOutWhatIsNotFinite) {
  const auto means = bucket_means({{1, 2}, {2, 4}, {5, 10}, {6, NAN}, {10, 20}, {11, 99}}, 10, 2);
  ASSERT_EQ(means.size(), 2u);
  EXPECT_EQ(means[0].x, 1.5);
  EXPECT_EQ(means[0].y, 3);
  EXPECT_EQ(means[1].x, 7.5);
  EXPECT_EQ(means[1].y, 15);
  EXPECT_TRUE(bucket_means({}, 0, 10).empty());
}

TEST(Plot, LabelsAreSpreadAndStayNear) {
  EXPECT_THAT(spread_labels({10, 50}, 13, 0, 100), ElementsAre(10, 50));
  EXPECT_THAT(spread_labels({50, 50, 50}, 10, 0, 100), ElementsAre(40, 50, 60));
  EXPECT_THAT(spread_labels({99, 98}, 10, 0, 100), ElementsAre(100, 90));
  EXPECT_THAT(spread_labels({0, 0, 0}, 60, 0, 100),
              ElementsAre(0, 50, 100));  // too many: closer, not outside
  EXPECT_TRUE(spread_labels({}, 10, 0, 100).empty());
}

TEST(Plot, GapsInACurveStartANewPath) {
  LinePlot plot{"t", "x", "y"};
  plot.series.push_back({"a", "", 0, {}, {{0, 1}, {1, 2}, {2, NAN}, {3, 1}, {4, 1}}});
  const std::string svg = draw_line_plot(plot);
  const size_t begin = svg.find("<path d=\"");
  const std::string path = svg.substr(begin, svg.find('"', begin + 9) - begin);
  EXPECT_EQ(count(path, "M"), 2u);
  EXPECT_EQ(count(path, "L"), 2u);
  EXPECT_EQ(draw_line_plot({"t", "x", "y"}), "");
}

// A point between two gaps is a line without length: it is drawn as a dot.
TEST(Plot, ASinglePointIsSeen) {
  LinePlot plot{"t", "x", "y"};
  plot.series.push_back({"a", "", 0, {}, {{1, 2}}});
  plot.series.push_back({"b", "", 1, {}, {{0, NAN}, {1, 3}, {2, NAN}, {3, 1}, {4, 1}}});
  EXPECT_EQ(count(draw_line_plot(plot), "class=\"dot"), 2u);
}

std::vector<double> heights_of(const std::string& svg) {  // of the first path's points
  const size_t begin = svg.find("<path d=\"") + 9;
  std::string path = svg.substr(begin, svg.find('"', begin) - begin);
  std::vector<double> out;
  const std::regex point("[ML]([-0-9.]+) ([-0-9.]+)");
  for (std::sregex_iterator at(path.begin(), path.end(), point), end; at != end; ++at)
    out.push_back(std::stod((*at)[2]));
  return out;
}

TEST(Plot, NothingIsCutOffAboveABrokenAxis) {
  LinePlot plot{"t", "x", "change (%)"};
  plot.break_y = 20;
  plot.series.push_back({"a", "", 0, {}, {{1, -9}, {2, 5}, {3, 15}, {4, 300}, {5, 690000}}});
  const std::string svg = draw_line_plot(plot, 380, 290);
  const auto y = heights_of(svg);
  ASSERT_EQ(y.size(), 5u);
  for (size_t i = 1; i < y.size(); ++i) EXPECT_LT(y[i], y[i - 1]);  // upwards, each of them
  EXPECT_GT(y.back(), 30);
  EXPECT_LT(y.front(), 260);
  EXPECT_THAT(svg, HasSubstr("axis broken"));
  plot.series[0].mean.resize(3);
  EXPECT_THAT(draw_line_plot(plot), Not(HasSubstr("axis broken")));
}

TEST(Plot, MoreLinesThanFiveBecomePanelsWithCommonAxes) {
  LinePlot plot{"t", "x", "y"};
  for (int i = 0; i < 5; ++i)
    plot.series.push_back({"model " + std::to_string(i), "", i, {}, {{0, 1.0 + i}, {9, 2.0 + i}}});
  EXPECT_EQ(count(line_figure(plot), "<svg"), 2u);  // wide and narrow
  plot.series.push_back({"model 5", "", 5, {}, {{0, 40}, {9, 50}}});
  plot.compared_with = 0;
  const std::string panels = line_figure(plot);
  EXPECT_EQ(count(panels, "<div class=\"panel\">"), 5u);
  EXPECT_EQ(count(panels, "class=\"curve mean series-context\""), 5u);
  EXPECT_EQ(count(panels, ">50</text>"), 5u);  // the axis of the sixth in every panel
  EXPECT_EQ(markup_fault(panels, false), "");
  EXPECT_EQ(markup_fault(line_plot_file(plot), true), "");
}

// What stands beside a model stays visible, also where that model is the grey one.
TEST(Plot, CompanionsAreDrawnInOnePanel) {
  LinePlot plot{"t", "x", "y"};
  for (int i = 0; i < 7; ++i)
    plot.series.push_back({"model " + std::to_string(i), "", i, {}, {{0, 1.0 + i}, {9, 2.0 + i}}});
  plot.compared_with = 0;
  for (const size_t of : {size_t(0), size_t(3)}) {
    PlotSeries paper{"the paper", "", kContextColor, {}, {{0, 1}, {9, 2}}};
    paper.panel_of = of;
    plot.series.push_back(paper);
  }
  const std::string panels = line_figure(plot);
  EXPECT_EQ(count(panels, "<div class=\"panel\">"), 7u);
  EXPECT_EQ(count(panels, "the paper, x 0: 1<"), 2u);
}

TEST(Plot, AnAxisOfCountsHasTicksAtWholeNumbers) {
  LinePlot plot{"title", "windows", "right"};
  plot.series.push_back({"a", "", 0, {}, {{0, 1}, {1, 2}, {2, 3}}});
  EXPECT_THAT(draw_line_plot(plot), HasSubstr(">0.5</text>"));
  plot.whole_x = true;
  const std::string drawn = draw_line_plot(plot);
  for (const char* tick : {">0</text>", ">1</text>", ">2</text>"})
    EXPECT_THAT(drawn, HasSubstr(tick));
  EXPECT_THAT(drawn, Not(HasSubstr("tick middle\">0.5")));
  EXPECT_THAT(drawn, Not(HasSubstr("tick middle\">1.0")));
}

TEST(Plot, BandsAndValuesToPointAt) {
  LinePlot plot{"Loss", "step", "nats"};
  PlotSeries series{"a <b>", "LEAKS", 0, {}, {{0, 1}, {10, 2.5}}};
  series.band = {{0, 0.5, 1.5}, {10, 2, 3}};
  plot.series.push_back(series);
  const std::string svg = draw_line_plot(plot);
  EXPECT_EQ(count(svg, "class=\"band series-0\""), 1u);
  EXPECT_THAT(svg, HasSubstr("<title>a &lt;b&gt; LEAKS, step 10: 2.5 [2, 3]</title>"));
  EXPECT_EQ(markup_fault(svg, true), "");
}

TEST(Plot, LabelsFitTheirRoom) {
  EXPECT_THAT(fit_lines("short", 100), ElementsAre("short"));
  const auto lines = fit_lines("a rather long name of a model", 100, 12, true);
  ASSERT_EQ(lines.size(), 2u);
  for (const auto& line : lines) EXPECT_LE(text_width(line, 12, true), 100) << line;
  EXPECT_THAT(fit_text("Donaudampfschifffahrt", 60), ::testing::EndsWith("\u2026"));
  EXPECT_LE(text_width(fit_text("Donaudampfschifffahrt", 60)), 60);
  EXPECT_EQ(fit_text("\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", 30).substr(0, 2),
            "\u00e9");  // no half characters
}

TEST(Plot, ScalesMeetTheirEndsAndTicksStayWithin) {
  const Scale log = Scale::logarithmic(1e-6, 1, 0, 600);
  EXPECT_NEAR(log(1e-6), 0, 1e-9);
  EXPECT_NEAR(log(1e-3), 300, 1e-9);
  EXPECT_NEAR(log(1), 600, 1e-9);
  for (const Tick& tick : log.ticks(8)) {
    EXPECT_GE(tick.value, 0.99e-6);
    EXPECT_LE(tick.value, 1.01);
  }
  EXPECT_GE(log.ticks(8).size(), 3u);
  const Scale broken = Scale::broken(-10, 20, 1e6, 300, 0);
  EXPECT_NEAR(broken(-10), 300, 1e-9);
  EXPECT_NEAR(broken(20), broken.place_of_break(), 1e-9);
  EXPECT_NEAR(broken(1e6), 0, 1e-9);
  EXPECT_EQ(Scale::broken(-10, 20, 15, 300, 0).is_broken(), false);
}

// ---- colours ---------------------------------------------------------------------
using Color = std::array<double, 3>;  // linear red, green, blue

Color linear_color(const std::string& hex) {
  Color out{};
  for (size_t i = 0; i < 3; ++i) {
    const double c = std::stoi(hex.substr(1 + 2 * i, 2), nullptr, 16) / 255.0;
    out[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  return out;
}

// Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
// Deficiency", 2009, severity 1.
using Matrix = std::array<std::array<double, 3>, 3>;
const std::map<std::string, Matrix> kVision{{"normal", {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}},
                                            {"protanopia",
                                             {{{0.152286, 1.052583, -0.204868},
                                               {0.114503, 0.786281, 0.099216},
                                               {-0.003882, -0.048116, 1.051998}}}},
                                            {"deuteranopia",
                                             {{{0.367322, 0.860646, -0.227968},
                                               {0.280085, 0.672501, 0.047413},
                                               {-0.011820, 0.042940, 0.968881}}}},
                                            {"tritanopia",
                                             {{{1.255528, -0.076749, -0.178779},
                                               {-0.078411, 0.930809, 0.147602},
                                               {0.004733, 0.691367, 0.303900}}}}};

Color seen(const Color& c, const Matrix& m) {
  Color out{};
  for (size_t i = 0; i < 3; ++i)
    out[i] = std::clamp(m[i][0] * c[0] + m[i][1] * c[1] + m[i][2] * c[2], 0.0, 1.0);
  return out;
}

// Oklab (B. Ottosson, 2020), in which distances are about as large as they look.
Color oklab(const Color& c) {
  const double l = std::cbrt(0.4122214708 * c[0] + 0.5363325363 * c[1] + 0.0514459929 * c[2]),
               m = std::cbrt(0.2119034982 * c[0] + 0.6806995451 * c[1] + 0.1073969566 * c[2]),
               s = std::cbrt(0.0883024619 * c[0] + 0.2817188376 * c[1] + 0.6299787005 * c[2]);
  return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
          1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
          0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

double luminance(const Color& c) {
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}

TEST(PlotStyle, ColoursDifferForEveryKindOfVisionAndFromTheGround) {
  std::ifstream file(testing::test_directory() + "/../trainers/reports/plot.css");
  std::stringstream text;
  text << file.rdbuf();
  const std::string css = text.str();
  const auto values = [&](const std::string& name) {
    std::vector<std::string> found;
    const std::regex value("--" + name + ": (#[0-9a-f]{6})");
    for (std::sregex_iterator at(css.begin(), css.end(), value), end; at != end; ++at)
      found.push_back((*at)[1]);
    return found;
  };
  ASSERT_EQ(values("panel").size(), 2u);  // light, dark
  for (size_t scheme = 0; scheme < 2; ++scheme) {
    const double ground = luminance(linear_color(values("panel")[scheme]));
    std::vector<Color> colors;
    for (int i = 0; i < kPlotColors; ++i) {
      const auto both = values("s" + std::to_string(i));
      ASSERT_EQ(both.size(), 2u) << i;
      colors.push_back(linear_color(both[scheme]));
      const double other = luminance(colors.back());
      EXPECT_GE((std::max(ground, other) + 0.05) / (std::min(ground, other) + 0.05), 3.0)
          << both[scheme];  // WCAG 2.1, 1.4.11: graphics
    }
    for (const auto& [vision, matrix] : kVision)
      for (size_t i = 0; i < colors.size(); ++i)
        for (size_t j = 0; j < i; ++j) {
          const Color a = oklab(seen(colors[i], matrix)), b = oklab(seen(colors[j], matrix));
          EXPECT_GE(std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]), 0.11)
              << vision << " scheme " << scheme << " colours " << i << " and " << j;
        }
  }
}

}  // namespace
}  // namespace reverie
