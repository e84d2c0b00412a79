#include "trainers/tables/losses/loss_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "trainers/reports/html.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/tables/loss_runs.h"

namespace reverie {
namespace {
using namespace reverie::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// What is wrong with the tags of `text`, or "": each is closed in its turn, attributes are quoted
// and not repeated, and no stray < or & stands outside. `xml`: there are no elements without an
// end, and void ones end in "/>".
std::string markup_fault(const std::string& text, bool xml) {
  static const std::set<std::string> kVoid{"meta", "br", "hr", "img", "link"};
  std::vector<std::string> open;
  size_t at = 0;
  const auto starts = [&](const std::string& part) {
    return text.compare(at, part.size(), part) == 0;
  };
  const auto name = [&] {
    const size_t begin = at;
    while (at < text.size() && (std::isalnum(uint8_t(text[at])) || text[at] == '-')) ++at;
    return text.substr(begin, at - begin);
  };
  while (at < text.size()) {
    const std::string here = text.substr(at, 60);
    if (text[at] == '&') {
      const auto known = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
      if (std::none_of(known.begin(), known.end(), starts)) return "stray & at: " + here;
    }
    if (text[at] == '>') return "stray > at: " + here;
    if (text[at] != '<') {
      ++at;
      continue;
    }
    if (!xml && starts("<!DOCTYPE html>")) {
      at += 15;
      continue;
    }
    const bool closing = starts("</");
    at += closing ? 2 : 1;
    const std::string tag = name();
    if (tag.empty()) return "no name at: " + here;
    std::set<std::string> attributes;
    while (starts(" ")) {
      ++at;
      const std::string attribute = name();
      if (!attributes.insert(attribute).second || !starts("=\""))
        return "bad attribute at: " + here;
      const size_t end = text.find_first_of("\"<", at += 2);
      if (end == text.npos || text[end] != '"') return "attribute without end at: " + here;
      at = end + 1;
    }
    const bool alone = starts("/");
    at += alone;
    if (!starts(">")) return "bad tag at: " + here;
    ++at;
    if (closing) {
      if (open.empty() || open.back() != tag) return "unexpected </" + tag + ">";
      open.pop_back();
    } else if (tag == "style" && !xml) {  // raw text: in CSS ">" is a selector
      at = text.find("</style>", at);
      if (at == text.npos) return "style without end";
      at += 8;
    } else if (!alone && (xml || !kVoid.count(tag))) {
      open.push_back(tag);
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

TEST(MarkupFault, FindsFaults) {
  EXPECT_EQ(markup_fault("<!DOCTYPE html><p class=\"a\">x &amp; y<br><i>z</i></p>", false), "");
  for (const char* bad : {"<p>", "</p>", "<p><i></p></i>", "a & b", "a < b", "<p class=a></p>",
                          "<p a=\"1\" a=\"2\"></p>", "a > b"})
    EXPECT_NE(markup_fault(bad, false), "") << bad;
  EXPECT_NE(markup_fault("<br>", true), "");
  EXPECT_EQ(markup_fault("<br/>", true), "");
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

std::vector<std::string> drawings(const std::string& html) {
  std::vector<std::string> out;
  for (size_t at = html.find("<svg"); at != html.npos; at = html.find("<svg", at + 1))
    out.push_back(html.substr(at, html.find("</svg>", at) + 6 - at));
  return out;
}

std::string report(const std::vector<LossRun>& runs, Json definition = table_definition()) {
  return loss_report_html(build_loss_table(definition, runs, make_provenance()), runs);
}

TEST(Report, IsWellFormedWhateverTheRuns) {
  std::vector<std::vector<LossRun>> cases{
      {}, make_runs(), make_runs({64}, 1), {make_run("gpt", 64, 1, {1.7, 1.8, 1.8})}};
  cases.push_back(make_runs({64}, 2));
  for (LossRun& run : cases.back()) run.metrics.clear();
  cases.push_back({make_run("gpt", 64, 1, {1.7, 1.8, 1.8})});
  cases.back()[0].summary["val_loss"] = nullptr;
  for (Json& event : cases.back()[0].metrics)
    if (event["event"] == "train" && event["step"] > 300) event["loss"] = nullptr;
  for (const auto& runs : cases) {
    const std::string html = report(runs);
    EXPECT_EQ(markup_fault(html, false), "");
    for (const std::string& drawing : drawings(html)) EXPECT_EQ(markup_fault(drawing, true), "");
    for (const char* part : {">nan", "\"nan", " nan", "nan "})
      EXPECT_EQ(count(html, part), 0u) << part;
    EXPECT_THAT(html, Not(HasSubstr("-0<")));
  }
}

TEST(Report, NeedsNoNetworkAndNoScript) {
  const std::string html = report(make_runs());
  for (const char* part : {"<script", "src=", "href=", "url(", "@import",
                           "http:", "https:", "<link", "<iframe", "onload=", "onclick="})
    EXPECT_EQ(count(html, part), 0u) << part;
}

TEST(Report, HoldsTheTablesTextAndCells) {
  const auto runs = make_runs();
  const LossTable table = build_loss_table(table_definition(), runs, make_provenance());
  const std::string html = loss_report_html(table, runs);
  EXPECT_THAT(html, HasSubstr(escape_html(explain_losses(table))));
  EXPECT_THAT(html, HasSubstr("<b>Data:</b> shakespeare-globe: not the paper&#39;s text"));
  for (const LossRow& row : table.rows)
    for (const std::string& column : table.columns) {
      if (column == "verdict") continue;  // the next test's
      EXPECT_THAT(html, HasSubstr(">" + escape_html(loss_cell(row, column).text)));
    }
  for (const auto& [name, value] : provenance_lines(table.provenance))
    EXPECT_THAT(html,
                HasSubstr("<dt>" + escape_html(name) + "</dt><dd>" + escape_html(value) + "</dd>"));
  EXPECT_EQ(count(html, "<tbody>"), 3u);
  EXPECT_EQ(count(html, "<div class=\"panel\">"), 6u);  // two plots a block size
  EXPECT_EQ(count(html, "guessing: ln 65 = 4.174"), 6u);
  EXPECT_EQ(count(html, "<article"), 5u);
}

TEST(Report, EveryNumberOfALeakingModelIsMarked) {
  const std::string html = report(make_runs({64}));
  const size_t begin = html.find("<tr class=\"leaking\">");
  ASSERT_NE(begin, html.npos);
  EXPECT_EQ(count(html, "<tr class=\"leaking\">"), 1u);
  const std::string row = html.substr(begin, html.find("</tr>", begin) - begin);
  EXPECT_EQ(count(row, "<span class=\"leaks\">LEAKS</span>"),
            5u);  // three losses, the logit change, the verdict
  EXPECT_THAT(row, HasSubstr("5.128 \u00b1 0.100 <span class=\"leaks\">LEAKS</span>"));
  // Two bars, one curve, in one block size; and no mark in the other drawings.
  size_t bars = 0, curves = 0;
  for (const std::string& drawing : drawings(html)) {
    bars += count(drawing, "<tspan class=\"mark\">LEAKS</tspan>");
    curves += count(drawing, " mark\">LEAKS</text>");
  }
  EXPECT_EQ(bars, 2u);
  EXPECT_EQ(curves, 1u);
  EXPECT_THAT(html, HasSubstr("<h3>IMM as published <span class=\"leaks\">LEAKS</span></h3>"));

  auto honest = make_runs({64});
  std::erase_if(honest, [](const LossRun& run) { return run.model == "imm_as_published"; });
  const std::string clean = report(honest);
  EXPECT_EQ(count(clean, "LEAKS"), 1u);  // the legend
  EXPECT_EQ(count(clean, " dashed\""), 0u);
}

TEST(Report, HostileTextCannotLeaveItsPlace) {
  const std::string hostile = "</pre><script>alert(1)</script><!-- ]]> &amp; \"'\x01\xff \xE2\x82";
  auto runs = make_runs({64}, 1);
  for (LossRun& run : runs) run.metrics.back()["text"] = hostile;
  Json definition = table_definition();
  definition["title"] = definition["citation"] = hostile;
  definition["notes"] = {hostile};
  definition["models"]["gpt"] = {{"title", hostile}, {"description", hostile}};
  const std::string html = report(runs, definition);
  EXPECT_EQ(markup_fault(html, false), "");
  EXPECT_EQ(count(html, "<script"), 0u);
  EXPECT_EQ(count(html, "<!--"), 0u);
  EXPECT_EQ(html.find('\x01'), html.npos);
  EXPECT_EQ(html, valid_utf8(html));
  EXPECT_THAT(
      html,
      HasSubstr(
          "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!-- ]]&gt; &amp;amp; &quot;&#39;"));
}

TEST(Report, ShowsTheLastSampleOfTheFirstSeed) {
  auto runs = make_runs({128, 64}, 2);
  for (LossRun& run : runs) {
    run.metrics.back()["text"] = run.run_dir + " last";
    const Json first = {{"event", "sample"}, {"step", 0}, {"text", run.run_dir + " first"}};
    run.metrics.insert(run.metrics.begin(), first);
  }
  const std::string html = report(runs);
  EXPECT_EQ(count(html, "runs/gpt-64-1 last"), 1u);
  EXPECT_EQ(count(html, "runs/gpt-128-1 last"), 1u);
  EXPECT_LT(html.find("runs/gpt-64-1 last"),
            html.find("runs/gpt-128-1 last"));  // the other sizes are folded in
  EXPECT_EQ(count(html, " first</pre>"), 0u);
  EXPECT_EQ(count(html, "runs/gpt-64-2 last"), 0u);
}

TEST(Report, SaysWhenRunsAreMissing) {
  Json definition = table_definition();
  definition["planned_runs"] = 45;
  EXPECT_THAT(report(make_runs({64}, 1), definition),
              HasSubstr("5 of 45 planned runs have finished."));
}

TEST(Html, Escaping) {
  EXPECT_EQ(escape_html("a<b> & \"c\" 'd'\n\t"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\t");
  EXPECT_EQ(escape_html("\x1b[0m\r"), "\uFFFD[0m\uFFFD");
  EXPECT_EQ(escape_html("\u0085\uFFFFx\u00e9\U0001F600"), "\uFFFD\uFFFDx\u00e9\U0001F600");
  EXPECT_EQ(valid_utf8("\xC3\xA9\xC3"), "\u00e9\uFFFD");
}

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
  LinePlot plot{"t", "x", "y", 0, {}, {}};
  plot.series.push_back({"a", "", 0, {}, {{0, 1}, {1, 2}, {2, NAN}, {3, 1}, {4, 1}}});
  const std::string svg = draw_line_plot(plot);
  const size_t begin = svg.find("<path d=\"");
  const std::string path = svg.substr(begin, svg.find('"', begin + 9) - begin);
  EXPECT_EQ(count(path, "M"), 2u);
  EXPECT_EQ(count(path, "L"), 2u);
  EXPECT_EQ(draw_line_plot({"t", "x", "y", 0, {}, {}}), "");
}

}  // namespace
}  // namespace reverie
