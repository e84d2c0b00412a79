#include "trainers/tables/losses/loss_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/markup.h"
#include "trainers/reports/svg_plot.h"
#include "trainers/tables/loss_runs.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {
using namespace reverie::testing;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MarkupFault, FindsFaults) {
  EXPECT_EQ(markup_fault("<!DOCTYPE html><p class=\"a\">x &amp; y<br><i>z</i></p>", false), "");
  for (const char* bad : {"<p>", "</p>", "<p><i></p></i>", "a & b", "a < b", "<p class=a></p>",
                          "<p a=\"1\" a=\"2\"></p>", "a > b"})
    EXPECT_NE(markup_fault(bad, false), "") << bad;
  EXPECT_NE(markup_fault("<br>", true), "");
  EXPECT_EQ(markup_fault("<br/>", true), "");
}

std::string report(const std::vector<LossRun>& runs, Json definition = table_definition()) {
  return loss_report_html(loss_table(definition, runs, make_provenance()), runs);
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
  const LossTable table = loss_table(table_definition(), runs, make_provenance());
  const std::string html = loss_report_html(table, runs);
  EXPECT_THAT(html, HasSubstr(escape_html(explain_losses(table))));
  EXPECT_THAT(html, HasSubstr(escape_html(detail_losses(table))));
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
  EXPECT_EQ(count(html, "<div class=\"figure\">"), 6u);    // two plots a block size
  EXPECT_EQ(count(html, "guessing: ln 65 = 4.174"), 12u);  // each in two widths
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
  // Two bars, one curve, in one block size, each in two widths; and no mark in the other drawings.
  size_t bars = 0, curves = 0;
  for (const std::string& drawing : drawings(html)) {
    bars += count(drawing, "<tspan class=\"mark\">LEAKS</tspan>");
    curves += count(drawing, " mark\">LEAKS</text>");
  }
  EXPECT_EQ(bars, 4u);  // in two widths
  EXPECT_EQ(curves, 2u);
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

TEST(Report, ASmokeTableSaysInItsFirstLineWhatItIsFor) {
  const auto runs = make_runs({64}, 1);
  Provenance smoke = make_provenance();
  smoke.preset = "smoke";
  const LossTable table = loss_table(table_definition(), runs, smoke);
  const std::string markdown = loss_table_markdown(table), html = loss_report_html(table, runs);
  EXPECT_THAT(markdown.substr(0, markdown.find('\n')),
              HasSubstr("shows that things run, and nothing else"));
  EXPECT_THAT(html, HasSubstr("shows that things run, and nothing else"));
  EXPECT_THAT(report(runs), Not(HasSubstr("shows that things run")));
}

TEST(Report, PlotsAreWrittenBesideTheMarkdownThatShowsThem) {
  const auto runs = make_runs();
  const LossTable table = loss_table(table_definition(), runs, make_provenance());
  const auto files = loss_plot_files(table, runs);
  ASSERT_EQ(files.size(), 6u);  // two a block size
  const std::string markdown = loss_table_markdown(table, files);
  for (const PlotFile& file : files) {
    EXPECT_EQ(markup_fault(file.svg, true), "") << file.name;
    EXPECT_THAT(markdown, HasSubstr("](" + file.name + ")"));
    EXPECT_THAT(file.svg, HasSubstr("prefers-color-scheme: dark"));
  }
}

TEST(Html, Escaping) {
  EXPECT_EQ(escape_html("a<b> & \"c\" 'd'\n\t"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\t");
  EXPECT_EQ(escape_html("\x1b[0m\r"), "\uFFFD[0m\uFFFD");
  EXPECT_EQ(escape_html("\u0085\uFFFFx\u00e9\U0001F600"), "\uFFFD\uFFFDx\u00e9\U0001F600");
  EXPECT_EQ(valid_utf8("\xC3\xA9\xC3"), "\u00e9\uFFFD");
}

}  // namespace
}  // namespace reverie
