// The page of a run, and of several: from run directories as a trainer leaves them.

#include "trainers/tables/runs/run_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/markup.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {
using namespace reverie::testing;
using ::testing::HasSubstr;
using ::testing::Not;

struct Shape {
  int64_t steps = 300;
  double loss = 1.9;
  bool leaks = false, finished = true, carries = false;
  double behind_latents = 0;  // a loss; 0: none are written
  double learning_rate = 1e-3;
  std::string checksum = "aa";
};

std::string write_run(const std::string& directory, const Shape& s) {
  std::filesystem::create_directories(directory);
  const Json config = {{"seed", 7},
                       {"data", {{"name", "hamlet"}}},
                       {"model", {{"type", "gpt2"}, {"n_layer", 2}}},
                       {"train", {{"steps", 300}, {"batch_size", 4}}},
                       {"optimizer", {{"learning_rate", s.learning_rate}}}};
  write_file_atomically(directory + "/config.resolved.json", json_text(config));
  const auto half = [&](int64_t tokens) {
    return Json{{"tokens", tokens}, {"checksum", s.checksum}};
  };
  write_file_atomically(
      directory + "/dataset.json",
      Json{{"source", {{"name", "hamlet"}}}, {"train", half(9000)}, {"validation", half(1000)}}
          .dump());
  const Json augmented = {{"train_loss", s.behind_latents - 0.1},
                          {"val_loss", s.behind_latents},
                          {"base_loss_on_same_predictions", 3.25},
                          {"predictions", 2048},
                          {"insertions", 128},
                          {"positions", {1, 16}},
                          {"rule", "16 offsets of each text"}};
  std::string lines;
  const auto add = [&](Json event) {
    if (s.leaks) event["label"] = "LEAKS";
    lines += event.dump() + "\n";
  };
  for (int64_t step = 1; step <= s.steps; ++step) {
    add({{"event", "train"},
         {"step", step},
         {"loss", s.loss + 2 * std::exp(-double(step) / 50)},
         {"learning_rate", s.learning_rate},
         {"gradient_norm", 0.5},
         {"tokens", 64 * step},
         {"tokens_per_second", 1e4},
         {"seconds", 0.01 * double(step)}});
    if (step % 100 == 0) {
      Json event = {{"event", "eval"},
                    {"step", step},
                    {"train_loss", s.loss + 0.1},
                    {"val_loss", s.loss + 0.2},
                    {"val_loss_prefix_only", s.loss + 0.3}};
      if (s.behind_latents > 0) event["augmented"] = augmented;
      add(event);
      add({{"event", "sample"}, {"step", step}, {"text", "To <be> " + std::to_string(step)}});
    }
  }
  write_file_atomically(directory + "/metrics.jsonl", lines);
  if (!s.finished) return directory;
  Json summary = {{"train_loss", s.loss + 0.1},
                  {"val_loss", s.loss + 0.2},
                  {"val_loss_prefix_only", s.loss + 0.3},
                  {"val_loss_on_prefix_only_windows", s.loss + 0.2},
                  {"causal", !s.leaks},
                  {"max_future_logit_change", s.leaks ? 3.0 : 0.0},
                  {"parameters", 12345},
                  {"tokens", 19200},
                  {"seconds", 3.0},
                  {"tokens_per_second", 6400.0},
                  {"commit", "0123"},
                  {"seed", 7},
                  {"dataset", {{"name", "hamlet"}, {"note", ""}, {"hash", s.checksum}}}};
  if (s.leaks) summary["label"] = "LEAKS";
  if (s.behind_latents > 0) summary["augmented"] = augmented;
  if (s.carries) {
    summary["val_loss_carried"] = s.loss + 0.05;
    summary["val_loss_on_carried_windows"] = s.loss + 0.25;
    Json positions = Json::array();
    for (int p = 1; p <= 8; ++p)
      positions.push_back(
          {{"first", p}, {"last", p}, {"carried", s.loss}, {"reset", s.loss + 1.0 / p}});
    summary["carried"] = {
        {"change_when_reset", {{"change", 0.2}, {"low", 0.15}, {"high", 0.25}, {"texts", 12}}},
        {"by_position", positions}};
  }
  write_file_atomically(directory + "/summary.json", json_text(summary));
  return directory;
}

void expect_sound(const std::string& html) {
  EXPECT_EQ(markup_fault(html, false), "");
  for (const std::string& drawing : drawings(html)) EXPECT_EQ(markup_fault(drawing, true), "");
  for (const char* part : {">nan", " nan", "<script", "src=", "href=", "http:", "https:"})
    EXPECT_EQ(count(html, part), 0u) << part;
}

TEST(RunReport, ShowsCurvesSamplesConfigAndVerdict) {
  TemporaryDirectory dir;
  const std::string html = run_report_html(read_run_record(write_run(dir / "first", {})));
  expect_sound(html);
  for (const char* part :
       {"<h1>first</h1>", "validation, prefix-only", "Learning rate", "Gradient norm", "Speed",
        "To &lt;be&gt; 300", "To &lt;be&gt; 100", "&quot;batch_size&quot;: 4", "12,345",
        "<span class=\"causal\">causal</span>", "Validation loss 2.100"})
    EXPECT_THAT(html, HasSubstr(part));
  EXPECT_THAT(html, Not(HasSubstr("LEAKS")));
}

TEST(RunReport, NoLossOfALeakingRunStandsWithoutItsLabel) {
  TemporaryDirectory dir;
  const std::string html =
      run_report_html(read_run_record(write_run(dir / "leak", {.leaks = true})));
  expect_sound(html);
  EXPECT_THAT(html,
              HasSubstr("Validation loss 2.100 nats per token LEAKS, prefix-only 2.200 LEAKS"));
  EXPECT_THAT(html, HasSubstr("2.100 nats per token <span class=\"leaks\">LEAKS</span>"));
  // Hover values carry the label, too: every loss curve's values say so.
  EXPECT_THAT(html, HasSubstr("<title>validation LEAKS, step 300: 2.1</title>"));
  EXPECT_THAT(html, Not(HasSubstr("<title>validation, step")));
}

Verdict found_leak() {
  Verdict verdict;
  verdict.add({"other tokens behind the cut, eval mode", "row 0", 3.0, 1e-6, 300});
  return verdict;
}

void expect_leak(const std::string& directory) {
  const RunRecord run = read_run_record(directory);
  EXPECT_EQ(run.label(), "LEAKS");
  EXPECT_EQ(run.verdict(), "LEAKS");
  const std::string html = run_report_html(run);
  expect_sound(html);
  EXPECT_THAT(html, HasSubstr("The model saw the tokens it was asked to predict"));
  EXPECT_THAT(html, HasSubstr("LEAKS: "));  // what moved
  for (const char* part : {"class=\"causal\"", "No logit depends", "passed the gate"})
    EXPECT_THAT(html, Not(HasSubstr(part)));
}

TEST(RunReport, ALeakThatALaterCommandFoundIsOnThePage) {
  TemporaryDirectory dir;
  for (const bool finished : {true, false}) {
    const std::string run =
        write_run(dir / (finished ? "finished" : "killed"), {.finished = finished});
    keep_leak(run, found_leak());
    expect_leak(run);
  }
  const std::string html = comparison_html(
      {read_run_record(dir / "finished"), read_run_record(dir / "killed")}, "reverie report");
  EXPECT_EQ(count(html, "<span class=\"causal\">causal</span>"), 0u);
  EXPECT_THAT(html, HasSubstr("No run on this page has finished without a label"));
}

TEST(RunReport, ALeakOfTheBaseIsOnThePage) {
  TemporaryDirectory dir;
  keep_leak(write_run(dir / "base", {}), found_leak());
  for (const bool finished : {true, false}) {
    const std::string run =
        write_run(dir / (finished ? "finished" : "killed"), {.finished = finished});
    Json config = parse_json(read_file(run + "/config.resolved.json"));
    config["model"]["base"] = dir / "base";
    write_file_atomically(run + "/config.resolved.json", json_text(config));
    expect_leak(run);
  }
}

TEST(RunReport, ALeakOfAShrunkRunSaysBoth) {
  TemporaryDirectory dir;
  const std::string run = write_run(dir / "run", {.finished = false});
  Json config = parse_json(read_file(run + "/config.resolved.json"));
  config["shrunk_by"] = 4;
  write_file_atomically(run + "/config.resolved.json", json_text(config));
  keep_leak(run, found_leak());
  EXPECT_EQ(read_run_record(run).label(), "LEAKS, shrunk by 4");
}

TEST(RunReport, CarriedMemoryIsShownByPositionAndOtherwiseNotSpokenOf) {
  TemporaryDirectory dir;
  const RunRecord carries = read_run_record(write_run(dir / "carries", {.carries = true})),
                  none = read_run_record(write_run(dir / "none", {})),
                  leaks =
                      read_run_record(write_run(dir / "leak", {.leaks = true, .carries = true}));
  const std::string html = run_report_html(carries);
  expect_sound(html);
  for (const char* part :
       {"validation, memory carried", "memory reset on the same windows", "by +0.2000 nats",
        "95 % over 12 texts: +0.1500 to +0.2500", "<title>reset, position in the window 1: 2.9"})
    EXPECT_THAT(html, HasSubstr(part));
  EXPECT_THAT(run_report_html(none), Not(HasSubstr("emory")));
  EXPECT_THAT(run_report_html(leaks), HasSubstr("<title>reset LEAKS, position"));
  const std::string both = comparison_html({carries, none}, "reverie report");
  expect_sound(both);
  EXPECT_THAT(both, HasSubstr("val, memory carried"));
  EXPECT_THAT(comparison_html({none, none}, "reverie report"), Not(HasSubstr("emory")));
}

// The base is frozen: its own losses are the same in each of the three.
TEST(RunReport, LossesBehindLatentsAreShownAndRankedUnderTheirOwnName) {
  TemporaryDirectory dir;
  const RunRecord worse = read_run_record(write_run(dir / "worse", {.behind_latents = 3.5})),
                  better = read_run_record(write_run(dir / "better", {.behind_latents = 3.125})),
                  plain = read_run_record(write_run(dir / "plain", {}));
  const std::string html = run_report_html(worse);
  expect_sound(html);
  for (const char* part :
       {"Validation loss behind latents 3.500 nats per token, the base&#39;s on the same tokens "
        "3.250.",
        "<dt>validation, behind latents</dt><dd>3.500 ",
        "<dt>the base, every token: validation, teacher-forced</dt><dd>2.100 ",
        "2,048 tokens behind 128 insertions: 16 offsets of each text",
        "<title>validation, behind latents, step 100: 3.5"})
    EXPECT_THAT(html, HasSubstr(part));
  EXPECT_THAT(html, Not(HasSubstr("<title>validation, step"))) << "the base's, in one chart";
  EXPECT_THAT(run_report_html(plain), Not(HasSubstr("latents")));
  const std::string both = comparison_html({worse, better}, "reverie report");
  expect_sound(both);
  EXPECT_THAT(both, HasSubstr("The lowest validation loss behind latents is 3.125"));
  EXPECT_THAT(both, HasSubstr("<tr class=\"best\"><th scope=\"row\" class=\"model\">better</th>"));
  EXPECT_THAT(both, HasSubstr("val, behind latents"));
  EXPECT_EQ(count(both, ">Validation loss, prefix-only<"), 0u) << "the base's, flat";
  const std::string mixed = comparison_html({worse, plain}, "reverie report");
  expect_sound(mixed);
  EXPECT_THAT(mixed, HasSubstr("losses are of different tokens"));
  EXPECT_EQ(count(mixed, "<tr class=\"best\">"), 0u);
}

TEST(RunReport, ARunThatHasNotFinishedSaysSo) {
  TemporaryDirectory dir;
  const std::string html = run_report_html(
      read_run_record(write_run(dir / "stopped", {.steps = 120, .finished = false})));
  expect_sound(html);
  EXPECT_THAT(html, HasSubstr("Not finished: 120 of 300 steps so far."));
  // Nor does one without a single step break the page.
  std::filesystem::create_directories(dir / "empty");
  write_file_atomically(dir / "empty/config.resolved.json",
                        R"({"train": {"steps": 3}, "model": {"type": "gpt2"}})");
  expect_sound(run_report_html(read_run_record(dir / "empty")));
}

TEST(RunReport, AnotherDirectoryIsRefused) {
  TemporaryDirectory dir;
  EXPECT_THAT(message_of<UserError>([&] { read_run_record(dir.path()); }),
              HasSubstr("is no run directory"));
}

TEST(Comparison, SaysWhatDiffersAndWhichIsBest) {
  TemporaryDirectory dir;
  const std::vector<RunRecord> runs{
      read_run_record(write_run(dir / "slow", {.loss = 2.0, .learning_rate = 1e-4})),
      read_run_record(write_run(dir / "fast", {.loss = 1.8})),
      read_run_record(write_run(dir / "leak", {.loss = 0.5, .leaks = true}))};
  const auto rows = differing_values(runs);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].path, "optimizer.learning_rate");
  EXPECT_THAT(rows[0].values, ::testing::ElementsAre("0.0001", "0.001", "0.001"));
  const std::string html = comparison_html(runs, "reverie report slow fast leak");
  expect_sound(html);
  EXPECT_THAT(html, HasSubstr("The lowest validation loss is 2.000 nats per token, of fast."));
  EXPECT_EQ(count(html, "<tr class=\"best\">"), 1u);
  EXPECT_THAT(html, HasSubstr("<tr class=\"best\"><th scope=\"row\" class=\"model\">fast</th>"));
  EXPECT_THAT(html,
              HasSubstr("<th scope=\"row\" class=\"model\">optimizer.<wbr>learning_rate</th>"));
}

TEST(Comparison, AComponentThatOnlySomeHaveStandsInOneRow) {
  TemporaryDirectory dir;
  const auto with = [&](const char* name, const Json& memory, const Json& plugins) {
    const std::string directory = write_run(dir / name, {});
    Json config = parse_json(read_file(directory + "/config.resolved.json"));
    config["model"]["memory"] = memory;
    config["plugins"] = plugins;
    write_file_atomically(directory + "/config.resolved.json", json_text(config));
    return read_run_record(directory);
  };
  const Json list = {"a.so"};
  const auto rows = differing_values({with("none", nullptr, Json::array()),
                                      with("imm", {{"type", "imm"}, {"mode", "slots"}}, list),
                                      with("rule", {{"type", "delta_rule"}, {"heads", 2}}, list)});
  std::vector<std::string> paths;
  for (const ConfigDifference& row : rows) paths.push_back(row.path);
  EXPECT_THAT(paths, ::testing::ElementsAre("model.memory", "model.memory.mode", "plugins.0",
                                            "model.memory.heads"));
  EXPECT_THAT(rows[0].values, ::testing::ElementsAre("null", "imm", "delta_rule"));
  EXPECT_THAT(rows[2].values, ::testing::ElementsAre("", "a.so", "a.so"));
}

TEST(Comparison, LossesOnOtherDataAreNotRanked) {
  TemporaryDirectory dir;
  const std::vector<RunRecord> runs{
      read_run_record(write_run(dir / "a", {})),
      read_run_record(write_run(dir / "b", {.loss = 1.0, .checksum = "bb"}))};
  const std::string html = comparison_html(runs, "reverie report a b");
  expect_sound(html);
  EXPECT_THAT(html, HasSubstr("trained on different data"));
  EXPECT_EQ(count(html, "<tr class=\"best\">"), 0u);
}

TEST(Comparison, ManyRunsBecomePanels) {
  TemporaryDirectory dir;
  std::vector<RunRecord> runs;
  for (int i = 0; i < 8; ++i)
    runs.push_back(
        read_run_record(write_run(dir / ("run" + std::to_string(i)), {.loss = 1.5 + 0.1 * i})));
  const std::string html = comparison_html(runs, "reverie report");
  expect_sound(html);
  // Three values in seven panels each, and three side panels.
  EXPECT_EQ(count(html, "<div class=\"panel\">"), 24u);
}

}  // namespace
}  // namespace reverie
