// Sweeps: combinations, rows, what is best and what cannot be told apart; a definition's errors.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/markup.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/tables/repro.h"
#include "trainers/tables/sweeps/learning_rate_report.h"
#include "trainers/tables/sweeps/sweep_table.h"
#include "trainers/tables/table_clock.h"
#include "trainers/training/learning_rate_range.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {
using namespace reverie::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<SweepAxis> axes() {
  return read_sweep_axes(parse_json(R"({"optimizer.learning_rate": [1e-3, 3e-4],
                                         "model.dropout": [0, 0.1, 0.2]})"),
                         "$.vary");
}

SweepRun run(const std::string& cell, int64_t seed, double val, bool leaks = false) {
  SweepRun r{cell, seed, {}};
  r.record.directory = r.record.name = cell + "-" + std::to_string(seed);
  r.record.config = {{"train", {{"steps", 10}}}, {"model", {{"type", "gpt2"}}}};
  r.record.summary = {{"train_loss", val - 0.1},
                      {"val_loss", val},
                      {"val_loss_prefix_only", val + 0.01},
                      {"causal", !leaks},
                      {"parameters", 1000},
                      {"seconds", 2.0},
                      {"commit", "0123"},
                      {"dataset", {{"name", "t"}, {"hash", "h"}}}};
  if (leaks) r.record.summary["label"] = "LEAKS";
  for (int step = 1; step <= 2; ++step)
    r.record.metrics.push_back(
        {{"event", "eval"}, {"step", 5 * step}, {"val_loss", val + 1.0 / step}});
  return r;
}

TEST(Sweep, AllCombinationsHaveNamesOfTheirOwn) {
  const auto cells = sweep_cells(axes());
  ASSERT_EQ(cells.size(), 6u);
  EXPECT_EQ(cells[0].name, "learning_rate=0.001,dropout=0");
  EXPECT_EQ(cells[4].name, "learning_rate=0.0003,dropout=0.1");
  EXPECT_EQ(cells[4].assignments[1].first, "model.dropout");
  // The same last part of two paths, and objects of one type.
  const auto both = sweep_cells(read_sweep_axes(
      parse_json(R"({"a.size": [1], "b.size": [2, 3], "model.memory": [{"type": "imm"},
                      {"type": "imm", "x": 1}, null]})"),
      "$.vary"));
  EXPECT_EQ(both[0].name, "a.size=1,b.size=2,memory=imm");
  EXPECT_EQ(both[1].name, "a.size=1,b.size=2,memory=imm_2");
  EXPECT_EQ(both[2].name, "a.size=1,b.size=2,memory=null");
}

TEST(Sweep, WrongDefinitionsAreNamed) {
  const auto message = [](const char* vary) {
    return message_of<ConfigError>([&] { read_sweep_axes(parse_json(vary), "$.vary"); });
  };
  EXPECT_THAT(message("{}"), HasSubstr("$.vary is empty"));
  EXPECT_THAT(message("[1]"), HasSubstr("$.vary is array"));
  EXPECT_THAT(message(R"({"train.steps": 3})"), HasSubstr("$.vary.\"train.steps\" is number"));
  EXPECT_THAT(message(R"({"train.steps": []})"), HasSubstr("is empty, wanted a list"));
  EXPECT_THAT(message(R"({"train.steps": [3, 3]})"), HasSubstr("holds 3 twice"));
  EXPECT_THAT(message(R"({"seed": [1, 2]})"), HasSubstr("seeds are those of the preset"));
  EXPECT_THAT(message(R"({"data.tokenizer": ["char"]})"), HasSubstr("other quantities"));
}

TEST(Sweep, TheBestIsTheLowestWithoutALabelAndScatterIsHeldAgainstTheRest) {
  const std::vector<SweepAxis> one = read_sweep_axes(
      parse_json(R"({"optimizer.learning_rate": [1e-2, 1e-3, 1e-4, 1e-5]})"), "$.vary");
  const std::string a = "learning_rate=0.01", b = "learning_rate=0.001", c = "learning_rate=0.0001",
                    d = "learning_rate=1e-05";
  const SweepTable table = build_sweep_table(
      one, {run(a, 1, 1.90), run(a, 2, 1.94), run(b, 1, 1.91), run(b, 2, 1.95), run(c, 1, 2.50),
            run(c, 2, 2.52), run(d, 1, 0.5, true), run(d, 2, 0.5, true)});
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.best, 0u);
  EXPECT_FALSE(table.rows[0].near_best);
  EXPECT_TRUE(table.rows[1].near_best);  // 0.01 apart, where seeds scatter by 0.03
  EXPECT_FALSE(table.rows[2].near_best);
  EXPECT_FALSE(table.rows[3].near_best);  // a leak is not near anything
  EXPECT_NEAR(table.rows[0].compared().mean, 1.92, 1e-12);
  EXPECT_NEAR(*table.rows[0].compared().sd, 0.0282842712, 1e-9);
  EXPECT_EQ(explain_sweep(table),
            "The lowest validation loss is 1.920 \u00b1 0.028 nats per token, at "
            "learning_rate=0.01. These seeds do not tell apart from it: learning_rate=0.001.");
  const std::string markdown = sweep_table_markdown(table), html = sweep_report_html(table);
  EXPECT_THAT(markdown, HasSubstr("| 0.01 | 1.920 \u00b1 0.028 | 1.930 \u00b1 0.028 |"));
  EXPECT_EQ(count(markdown, "**best**"), 1u);
  EXPECT_THAT(markdown, HasSubstr("0.500 \u00b1 0.000 LEAKS | 0.510 \u00b1 0.000 LEAKS"));
  EXPECT_EQ(count(html, "<tr class=\"best\">"), 1u);
  EXPECT_EQ(markup_fault(html, false), "");
  EXPECT_EQ(markup_fault(sweep_plot_files(table)[0].svg, true), "");
  const Json json = sweep_table_json(table);
  EXPECT_EQ(json["rows"][0]["best"], true);
  EXPECT_EQ(json["rows"][3]["label"], "LEAKS");
}

// A frozen base's own loss is the same whatever is varied.
TEST(Sweep, RunsWithLatentsAreRankedByTheLossBehindThem) {
  const std::string a = "learning_rate=0.001,dropout=0", b = "learning_rate=0.0003,dropout=0.1";
  const auto with_latents = [](SweepRun r, double loss, int64_t ahead) {
    r.record.summary["augmented"] = {{"train_loss", loss - 0.1},
                                     {"val_loss", loss},
                                     {"base_loss_on_same_predictions", 3.0},
                                     {"predictions", 2048},
                                     {"positions", {1, ahead}}};
    return r;
  };
  const SweepTable table = build_sweep_table(
      axes(), {with_latents(run(a, 1, 2.0), 3.5, 16), with_latents(run(b, 1, 2.0), 2.5, 16)});
  EXPECT_EQ(table.best, 1u);
  EXPECT_THAT(
      explain_sweep(table),
      HasSubstr("The lowest validation loss behind latents is 2.500 nats per token, at " + b));
  const std::string markdown = sweep_table_markdown(table);
  EXPECT_THAT(markdown, HasSubstr("val, behind latents | val, base on the same tokens | train, "));
  EXPECT_THAT(markdown, HasSubstr("| 2.500 | 3.000 | 2.400 |"));
  EXPECT_EQ(sweep_table_json(table)["rows"][1]["measured"]["augmented.val_loss"]["mean"], 2.5);
  EXPECT_EQ(markup_fault(sweep_report_html(table), false), "");
  // Losses of other tokens are not held against one another.
  for (const SweepRun& other : {with_latents(run(b, 1, 2.0), 2.5, 8), run(b, 1, 2.0)}) {
    const SweepTable mixed =
        build_sweep_table(axes(), {with_latents(run(a, 1, 2.0), 3.5, 16), other});
    EXPECT_FALSE(mixed.best);
    EXPECT_THAT(explain_sweep(mixed), HasSubstr("different tokens"));
    EXPECT_EQ(markup_fault(sweep_report_html(mixed), false), "");
  }
}

TEST(Sweep, OneSeedClaimsNothingAboutScatter) {
  const SweepTable table =
      build_sweep_table(axes(), {run("learning_rate=0.001,dropout=0", 1, 1.9),
                                 run("learning_rate=0.0003,dropout=0.1", 1, 1.91)});
  EXPECT_EQ(table.rows.size(), 2u);
  EXPECT_FALSE(table.rows[1].near_best);
  EXPECT_THAT(explain_sweep(table), HasSubstr("how far seeds scatter is not known"));
  EXPECT_EQ(markup_fault(sweep_report_html(table), false), "");
}

struct SweepRuns : ::testing::Test {
  SweepRuns() {
    std::ofstream text(folder / "text.txt");
    for (int i = 0; i < 300; ++i) text << "The " << i << ". line of a text.\n";
  }
  Json table() const {
    return {{"kind", "sweep"},
            {"title", "two rates"},
            {"base",
             {{"data", {{"path", folder / "text.txt"}, {"prepared_directory", folder / "tokens"}}},
              {"model",
               {{"type", "gpt2"}, {"block_size", 8}, {"n_layer", 1}, {"n_head", 1}, {"n_embd", 8}}},
              {"train", {{"steps", 4}, {"batch_size", 2}}},
              {"evaluation",
               {{"interval", 2},
                {"windows", 2},
                {"prefix_only_windows", 1},
                {"final_windows", 2},
                {"final_prefix_only_windows", 1}}},
              {"sample", {{"tokens", 0}}}}},
            {"vary", {{"optimizer.learning_rate", {1e-2, 1e-3}}}},
            {"presets", {{"sweep", {{"seeds", {1, 2}}}}}}};
  }
  ReproOptions options(Json definition) const {
    ReproOptions o;
    o.table = std::move(definition);
    o.table_file = folder / "sweep.json";
    o.preset = "sweep";
    o.directory = folder / "out";
    o.command = "reverie sweep";
    return o;
  }
  TemporaryDirectory folder;
};

TEST_F(SweepRuns, TrainsWhatIsMissingAndGoesOn) {
  ASSERT_EQ(run_table(options(table())), 0);
  const Json json = Config::from_file(folder / "out/table.json").json();
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_EQ(json["finished_runs"], 4);
  EXPECT_THAT(json["rows"][0]["seeds"], ElementsAre(1, 2));
  EXPECT_EQ(int(json["rows"][0]["best"]) + int(json["rows"][1]["best"]), 1);
  // Another value: what is there is reused.
  const auto before =
      std::filesystem::last_write_time(plan_table(options(table()))[0].directory + "/summary.json");
  Json wider = table();
  wider["vary"]["optimizer.learning_rate"].push_back(1e-4);
  ASSERT_EQ(run_table(options(wider)), 0);
  EXPECT_EQ(Config::from_file(folder / "out/table.json").json()["finished_runs"], 6);
  EXPECT_EQ(before, std::filesystem::last_write_time(plan_table(options(table()))[0].directory +
                                                     "/summary.json"));
  // Every run has its page.
  EXPECT_TRUE(std::filesystem::exists(plan_table(options(wider))[5].directory + "/report.html"));
}

TEST_F(SweepRuns, NothingIsTrainedBeforeTheWholeDefinitionIsSound) {
  Json unknown = table(), range = table(), models = table();
  unknown["vary"] = {{"optimizer.learning_rat", {1e-2, 1e-3}}};
  range["vary"] = {{"optimizer.learning_rate", {1e-2, -1}}};
  models["models"] = Json::object();
  EXPECT_THAT(message_of<ConfigError>([&] { run_table(options(unknown)); }),
              HasSubstr("\"learning_rate\""));
  EXPECT_THAT(message_of<ConfigError>([&] { run_table(options(range)); }),
              HasSubstr("learning_rate"));
  EXPECT_THAT(message_of<ConfigError>([&] { run_table(options(models)); }), HasSubstr("$.models"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST_F(SweepRuns, TheRangeTestFindsWhereTrainingIsSpoilt) {
  const ExperimentOptions o = read_experiment(Config(table()["base"], "$"), ".");
  const LearningRateRange range = find_learning_rate(o, {.steps = 60, .low = 1e-5, .high = 10});
  ASSERT_GE(range.points.size(), 20u);
  EXPECT_NEAR(range.points[0].rate, 1e-5, 1e-12);
  for (size_t i = 1; i < range.points.size(); ++i)
    EXPECT_NEAR(range.points[i].rate / range.points[i - 1].rate, std::pow(1e6, 1.0 / 59), 1e-9);
  EXPECT_GT(range.lowest, 1e-4);
  EXPECT_LT(range.lowest, 10);
  ASSERT_TRUE(range.suggested);
  EXPECT_GT(*range.suggested, 1e-5);
  EXPECT_LT(*range.suggested, range.lowest);
  EXPECT_THROW(find_learning_rate(o, {.steps = 3}), UserError);
  // Rates that are all too high: nothing is suggested that was not seen.
  const LearningRateRange high = find_learning_rate(o, {.steps = 30, .low = 3, .high = 10});
  EXPECT_FALSE(high.suggested);
  EXPECT_THAT(explain_learning_rate(high), HasSubstr("suggests no rate"));
}

TEST(TableClock, RunsOfOneCellTakeTheSameTimeAndOthersTheMeanOfAStep) {
  // a, b, a, b, with 10 and 20 steps.
  TableClock clock({{"a", 10}, {"b", 20}, {"a", 10}, {"b", 20}});
  // Nothing is known but this run: 2 s a step.
  EXPECT_DOUBLE_EQ(clock.seconds_after(0, 20), 40 + 20 + 40);
  clock.finished(0, 20);
  EXPECT_DOUBLE_EQ(clock.seconds_after(1, 100), 20 + 100);
  clock.finished(1, 100);
  EXPECT_DOUBLE_EQ(clock.seconds_after(2, 20), 100);
  EXPECT_DOUBLE_EQ(clock.seconds_after(3, 100), 0);
  // What was reused, or is not wanted now, takes no time.
  TableClock some({{"a", 10}, {"b", 20, false}, {"a", 10}});
  some.finished(2, 5);
  EXPECT_DOUBLE_EQ(some.seconds_after(0, 20), 0);
}

TEST(TableClock, ACellsRunsAreTimedByItsTrials) {
  // Trials of 10 steps of a slow and a quick cell, then their runs of 30.
  TableClock clock({{"slow", 10}, {"quick", 10}, {"slow", 30}, {"quick", 30}});
  EXPECT_DOUBLE_EQ(clock.seconds_after(0, 100), 100 + 300 + 300);
  clock.finished(0, 100);
  EXPECT_DOUBLE_EQ(clock.seconds_after(1, 10), 300 + 30);
}

}  // namespace
}  // namespace reverie
