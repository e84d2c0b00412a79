// Tables of benchmarks: comparisons item by item, what the files say, and tables from their file.

#include "trainers/tables/benchmarks/benchmark_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/cuda.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/working_folder.h"
#include "trainers/runs/run_directory.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::TemporaryDirectory;
using testing::WorkingFolder;

// Right on the items first .. first + count - 1 of 100.
std::vector<double> right_from(size_t first, size_t count) {
  std::vector<double> right(100);
  for (size_t i = first; i < first + count; ++i) right[i] = 1;
  return right;
}

BenchmarkRun run_of(const std::string& model, int64_t seed, std::vector<double> right,
                    int64_t latents = 0, bool shuffled = false) {
  BenchmarkRun run;
  run.cell = {"sums", model, latents, 0, shuffled};
  run.seed = seed;
  run.right = std::move(right);
  run.items_hash = "items";
  run.all_items = 100;
  run.chance = 0.1;
  run.tokens = 4;
  run.milliseconds = 2.5;
  run.verdict.add({"cuts", "", 0, 1e-6, 20});
  run.summary = {{"seconds", 10.0},
                 {"commit", "0123456789abcdef"},
                 {"dataset", {{"name", "sums"}, {"note", ""}, {"hash", "items"}}}};
  run.directory = "runs/x";
  return run;
}

BenchmarkTable table_of(const std::vector<BenchmarkRun>& runs) {
  Json definition = parse_json(R"({"title": "latents on sums", "planned_runs": 9,
    "models": {"direct": {"title": "Direct"}, "soft": {"title": "Soft"},
               "coprocessor": {"title": "Coprocessor", "description": "reads"}}})");
  const TableHeading heading = testing::take_heading(definition);
  BenchmarkRoles roles{"direct", {"sums"}, {}, 2000};
  roles.compared["coprocessor"] = {"coprocessor_shuffled", "soft"};
  return build_benchmark_table(testing::read_report<TableReport>(definition), heading, roles, runs);
}

std::vector<BenchmarkRun> two_seeds() {
  std::vector<BenchmarkRun> runs;
  for (const int64_t seed : {1, 2}) {
    runs.push_back(run_of("direct", seed, right_from(0, 40)));
    runs.push_back(run_of("coprocessor", seed, right_from(0, 60), 4));
    runs.push_back(run_of("coprocessor", seed, right_from(0, 41), 4, true));
    // As good in the mean, on other items.
    runs.push_back(run_of("soft", seed, right_from(seed == 1 ? 1 : 0, 60), 4));
  }
  return runs;
}

TEST(BenchmarkTable, ComparesItemByItemWithTheRunOfTheSameSeed) {
  const BenchmarkTable table = table_of(two_seeds());
  std::vector<std::string> titles;
  for (const BenchmarkRow& row : table.rows) titles.push_back(row.title);
  EXPECT_THAT(titles,
              ElementsAre("Direct", "Soft, 4", "Coprocessor, 4", "Coprocessor, 4, shuffled"));
  EXPECT_EQ(table.finished_runs, 6) << "a shuffled measurement is no run";
  EXPECT_FALSE(table.rows[0].against_base);
  const BenchmarkComparison& c = *table.rows[2].against_base;
  EXPECT_NEAR(c.mean, 0.2, 1e-12);
  EXPECT_THAT(c.by_seed, ElementsAre(DoubleNear(0.2, 1e-12), DoubleNear(0.2, 1e-12)));
  EXPECT_EQ(c.sign(), 1);
  // 20 items are right for one alone: 2 / 2^20. The same in both seeds, which count once.
  EXPECT_DOUBLE_EQ(c.p, 2.0 / double(1 << 20));
  EXPECT_GT(c.low, 0.1);
  EXPECT_LT(c.high, 0.3);
  ASSERT_EQ(table.findings().size(), 1u);
  const BenchmarkFinding finding = table.findings()[0];
  ASSERT_EQ(finding.against.size(), 3u);
  EXPECT_EQ(finding.against[1].row->title, "Coprocessor, 4, shuffled");
  EXPECT_EQ(finding.against[1].comparison.sign(), 1);
  EXPECT_EQ(finding.against[2].row->title, "Soft, 4");
  EXPECT_EQ(finding.against[2].comparison.sign(), 0);
  EXPECT_NEAR(finding.against[2].comparison.mean, 0, 1e-12);
  EXPECT_EQ(finding.against[2].comparison.p, 1);
}

TEST(BenchmarkTable, SeedsThatDisagreeShowNoDifference) {
  // Much better with one seed, a little worse with the other.
  const BenchmarkTable table = table_of(
      {run_of("direct", 1, right_from(0, 40)), run_of("coprocessor", 1, right_from(0, 90), 4),
       run_of("direct", 2, right_from(0, 40)), run_of("coprocessor", 2, right_from(0, 39), 4)});
  const BenchmarkComparison& c = *table.rows[1].against_base;
  EXPECT_GT(c.low, 0);
  EXPECT_EQ(c.sign(), 0);
  EXPECT_EQ(c.p, 1) << "the largest of the seeds: one item alone";
  EXPECT_THAT(benchmark_sentences(table)[0],
              AllOf(HasSubstr("seeds disagree"), HasSubstr("helps against none of: Direct.")));
  // Without a seed in common there is nothing to compare.
  EXPECT_FALSE(table_of({run_of("direct", 1, right_from(0, 40)),
                         run_of("coprocessor", 2, right_from(0, 90), 4)})
                   .rows[1]
                   .against_base);
}

TEST(BenchmarkTable, FilesSayWhetherLatentsHelpAndAgainstWhat) {
  const BenchmarkTable table = table_of(two_seeds());
  const auto sentences = benchmark_sentences(table);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_THAT(
      sentences[0],
      AllOf(HasSubstr("sums, Coprocessor, 4: 60.0 \u00b1 0.0 % right of 100 items, 2 seeds (chance "
                      "10.0 %). It helps against Direct; Coprocessor, 4, shuffled, and not against "
                      "Soft, 4. In points: +20.0 against Direct (40.0 %), 95 % +"),
            HasSubstr("McNemar's p 2e-06 at most: better"),
            HasSubstr("+0.0 against Soft, 4 (60.0 %), 95 %"),
            HasSubstr("no difference that these items show")));
  EXPECT_THAT(
      explain_benchmarks(table),
      HasSubstr("Of 1 rows with latents or thoughts (a model, a number of latents, a task), "
                "1 answers more items rightly than the base, and 0 more than every control"));
  const std::string text = benchmark_table_markdown(table), page = benchmark_report_html(table);
  for (const std::string* file : {&text, &page})
    EXPECT_THAT(*file, AllOf(HasSubstr("It helps against Direct"), HasSubstr("causal"),
                             HasSubstr("6 of 9")));
  EXPECT_THAT(text, HasSubstr("| Coprocessor, 4 | 60.0 \u00b1 0.0 % | +20.0 ("));
  EXPECT_THAT(text, HasSubstr(") | 2e-06 | 4.0 | 2.50 | 2 | causal |"));
  EXPECT_LT(text.find("It helps"), text.find("| Coprocessor, 4 |")) << "above the table";
  const Json json = benchmark_table_json(table);
  EXPECT_EQ(json["rows"][2]["latents"], 4);
  EXPECT_EQ(json["rows"][2]["items"], 100);
  EXPECT_EQ(json["rows"][2]["chance"], 0.1);
  EXPECT_EQ(json["rows"][2]["verdict"], "causal");
  EXPECT_EQ(json["findings"][0]["against"][0]["finding"], "better");
  EXPECT_EQ(json["findings"][0]["against"][2]["finding"], "none");
  EXPECT_THAT(benchmark_table_csv(table),
              HasSubstr("\nsums,coprocessor,4,0,false,0,100,0.1,0.6,0,2,0.2,"));
  const auto plots = benchmark_plot_files(table);
  ASSERT_EQ(plots.size(), 1u);
  EXPECT_EQ(plots[0].name, "sums.svg");
  EXPECT_THAT(plots[0].svg, AllOf(HasSubstr("Coprocessor, 4"), HasSubstr("chance, 10.0 %"),
                                  HasSubstr("outlined"), Not(HasSubstr("not finite"))));
}

// Latents that are made anew are rows of their own, beside those that are made once.
TEST(BenchmarkTable, LatentsMadeAnewAreNamedAndComparedWithTheirLike) {
  std::vector<BenchmarkRun> runs = two_seeds();
  for (const BenchmarkRun& run : two_seeds())
    if (run.cell.latents > 0) {
      runs.push_back(run);
      runs.back().cell.latents_every = 16;
      runs.back().right = right_from(0, run.cell.shuffled          ? 42
                                        : run.cell.model == "soft" ? 30
                                                                   : 70);
    }
  const BenchmarkTable table = table_of(runs);
  std::vector<std::string> titles;
  for (const BenchmarkRow& row : table.rows) titles.push_back(row.title);
  EXPECT_THAT(titles,
              ElementsAre("Direct", "Soft, 4", "Soft, 4, anew every 16 tokens", "Coprocessor, 4",
                          "Coprocessor, 4, shuffled", "Coprocessor, 4, anew every 16 tokens",
                          "Coprocessor, 4, anew every 16 tokens, shuffled"));
  const auto findings = table.findings();
  ASSERT_EQ(findings.size(), 2u);
  const auto against = [](const BenchmarkFinding& finding) {
    std::vector<std::string> names;
    for (const auto& a : finding.against) names.push_back(a.row->title);
    return names;
  };
  EXPECT_THAT(against(findings[0]), ElementsAre("Direct", "Coprocessor, 4, shuffled", "Soft, 4"));
  EXPECT_THAT(against(findings[1]), ElementsAre("Direct", "Coprocessor, 4",
                                                "Coprocessor, 4, anew every 16 tokens, shuffled",
                                                "Soft, 4, anew every 16 tokens"));
  EXPECT_NEAR(findings[1].against[1].comparison.mean, 0.1, 1e-12);
  EXPECT_NEAR(findings[1].against[3].comparison.mean, 0.4, 1e-12);
  const Json json = benchmark_table_json(table);
  EXPECT_FALSE(json["rows"][3].contains("latents_every"));
  EXPECT_EQ(json["rows"][5]["latents_every"], 16);
  EXPECT_THAT(benchmark_table_csv(table),
              HasSubstr("\nsums,coprocessor,4,0,true,16,100,0.1,0.42,0,2,"));
  EXPECT_THAT(benchmark_table_markdown(table),
              HasSubstr("| Coprocessor, 4, anew every 16 tokens | 70.0"));
  EXPECT_THAT(benchmark_report_html(table), HasSubstr("Coprocessor, 4, anew every 16 tokens"));
}

// Models that were to be asked and have no run: every file says so, and what trains them.
TEST(BenchmarkTable, RowsWithoutRunsAreNamedWithTheCommandThatMakesThem) {
  BenchmarkTable table = table_of(two_seeds());
  EXPECT_EQ(benchmark_table_json(table)["missing_runs"], Json::array());
  add_missing_runs(table, {{"soft", "reverie repro a_b.json --only soft"}});
  const std::string sentence =
      "Soft: its rows are left out, since no run of it has finished. It is trained by `reverie "
      "repro "
      "a_b.json --only soft`";
  EXPECT_EQ(benchmark_sentences(table)[0], sentence);
  for (const std::string& file : {benchmark_table_markdown(table), benchmark_report_html(table)})
    EXPECT_THAT(file, AllOf(HasSubstr("Soft: its rows are left out"),
                            HasSubstr("`reverie repro a_b.json --only soft`")));
  const Json missing = benchmark_table_json(table)["missing_runs"];
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_EQ(missing[0]["model"], "soft");
  EXPECT_EQ(missing[0]["command"], "reverie repro a_b.json --only soft");
}

TEST(BenchmarkTable, ALeakLabelsItsFiguresAndIsNoResult) {
  auto runs = two_seeds();
  runs[1].verdict.add({"cuts", "", 1, 1e-6, 20});
  const BenchmarkTable table = table_of(runs);
  const std::string text = benchmark_table_markdown(table), page = benchmark_report_html(table);
  EXPECT_THAT(text, HasSubstr("| Coprocessor, 4 | 60.0 \u00b1 0.0 %  LEAKS | +20.0 ("));
  EXPECT_THAT(text, HasSubstr("| **LEAKS** |"));
  EXPECT_THAT(page, HasSubstr("<span class=\"leaks\">LEAKS</span>"));
  EXPECT_THAT(benchmark_sentences(table)[0], AllOf(HasSubstr("no result, one of the two LEAKS"),
                                                   HasSubstr("It helps against none of: Direct;")));
  EXPECT_THAT(explain_benchmarks(table), HasSubstr(", 0 answer more items rightly than the base"));
  EXPECT_EQ(benchmark_table_json(table)["findings"][0]["against"][0]["finding"], "leaks");
  EXPECT_EQ(benchmark_table_json(table)["rows"][2]["label"], "LEAKS");
}

TEST(BenchmarkTable, SaysWhereNothingCanBeSeen) {
  const auto first = [](size_t base, size_t other) {
    return benchmark_sentences(table_of({run_of("direct", 1, right_from(0, base)),
                                         run_of("coprocessor", 1, right_from(0, other), 4)}))[0];
  };
  EXPECT_THAT(first(10, 12), HasSubstr("no row is above chance (10.0 %; the best has 12.0 %)"));
  EXPECT_THAT(first(99, 100), HasSubstr("99.0 % of the items already"));
  EXPECT_THAT(first(30, 40), HasSubstr("sums, Coprocessor, 4"));
  auto limited = two_seeds();
  for (BenchmarkRun& run : limited) run.all_items = 500;
  EXPECT_THAT(benchmark_table_markdown(table_of(limited)),
              AllOf(HasSubstr("100 items (LIMITED: the first of 500)"), HasSubstr("%  LIMITED |")));
}

TEST(BenchmarkTable, RunsThatCannotStandTogetherAreRefused) {
  const auto refused = [](const BenchmarkRun& other) {
    return message_of<UserError>([&] {
      table_of({run_of("direct", 1, right_from(0, 40)), other});
    });
  };
  EXPECT_THAT(refused(run_of("direct", 1, right_from(0, 40))), HasSubstr("have seed 1"));
  BenchmarkRun other = run_of("soft", 1, right_from(0, 40), 4);
  other.items_hash = "others";
  EXPECT_THAT(refused(other), HasSubstr("measured on other items"));
  EXPECT_THAT(refused(run_of("soft", 1, std::vector<double>(50), 4)),
              HasSubstr("measured on other items"));
}

// Items that are missing leave their rows out, and no others.
TEST(BenchmarkTable, RowsWithoutDataSaySoAndNameTheFile) {
  BenchmarkTable table = table_of(two_seeds());
  table.roles.tasks.push_back("products");
  const std::string before = benchmark_table_csv(table);
  add_gaps(table, {{{"products", "direct"}, "products.jsonl"},
                   {{"sums", "coprocessor", 8}, "solved.jsonl"}});
  const std::string text = benchmark_table_markdown(table), page = benchmark_report_html(table),
                    csv = benchmark_table_csv(table);
  EXPECT_THAT(text, AllOf(HasSubstr("## products\n\n| model |"), HasSubstr("| Direct | no data |"),
                          HasSubstr("| Coprocessor, 8 | no data |")));
  const size_t first = page.find("no data</td>"), second = page.find("no data</td>", first + 1);
  ASSERT_NE(second, std::string::npos);
  EXPECT_LT(first, page.find("<h2>products</h2>"));
  EXPECT_GT(second, page.find("<h2>products</h2>"));
  for (const std::string* file : {&text, &page})
    EXPECT_THAT(*file,
                AllOf(HasSubstr("products: no data for Direct: products.jsonl is missing"),
                      HasSubstr("sums: no data for Coprocessor, 8: solved.jsonl is missing")));
  EXPECT_TRUE(csv.starts_with(before));
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);)
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 17) << line;
  EXPECT_THAT(csv, HasSubstr("\nproducts,direct,0,0,false,0,,,,,,,,,,,,no data\n"));
  const Json json = benchmark_table_json(table);
  EXPECT_EQ(json["rows"].size(), 4u);
  ASSERT_EQ(json["no_data"].size(), 2u);
  EXPECT_EQ(json["no_data"][0]["file"], "products.jsonl");
  EXPECT_EQ(json["no_data"][1]["latents"], 8);
  EXPECT_EQ(benchmark_plot_files(table).size(), 1u) << "no bar without a figure";
}

// A published model has no seed: it stands beside every seed of runs with latents.
TEST(BenchmarkTable, WhatWasNotTrainedStandsBesideEverySeed) {
  std::vector<BenchmarkRun> runs = {run_of("direct", 0, right_from(0, 40)),
                                    run_of("coprocessor", 7, right_from(0, 50), 4),
                                    run_of("coprocessor", 8, right_from(0, 60), 4)};
  runs[0].seed.reset();
  runs[0].summary = Json();
  const BenchmarkTable table = table_of(runs);
  EXPECT_THAT(table.rows[1].against_base->by_seed,
              ElementsAre(DoubleNear(0.1, 1e-12), DoubleNear(0.2, 1e-12)));
  EXPECT_EQ(benchmark_table_json(table)["rows"][0]["seeds"], Json());
}

// ---- from the table's file ---------------------------------------------------------------------
class BenchmarkReproTest : public ::testing::Test {
 protected:
  ReproOptions options(const Json& patch = Json::object(), bool with_data = false) const {
    Json t = parse_json(R"({
      "kind": "benchmarks", "title": "a small table of benchmarks", "baseline": "direct",
      "base": {"data": {"tokenizer": "word"}, "train": {"steps": 3, "batch_size": 4},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 1},
        "evaluation": {"interval": 0, "windows": 4, "final_windows": 4, "final_prefix_only_windows": 1, "batch_size": 4},
        "sample": {"tokens": 0}},
      "tasks": {"graphs": {"data": {"problems": {"type": "reachability", "wording": "short", "nodes": 7, "nodes_deviation": 0, "steps": [2], "step_weights": [1], "train": 40, "held_out": 12}}}},
      "models": {
        "direct": {"model": {"type": "llama", "vocab_size": 0, "block_size": 96, "n_layer": 1, "n_head": 2, "n_embd": 16, "n_hidden": 24}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "steps": {"model": {"type": "llama", "vocab_size": 0, "block_size": 96, "n_layer": 1, "n_head": 2, "n_embd": 16, "n_hidden": 24}, "data": {"examples": {"stage": 0}}},
        "continued": {"model": {"type": "pretrained", "block_size": 64}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "coprocessor": {"model": {"type": "augmented", "insert": "targets", "groups": 1, "ahead": 8, "block_size": 64, "latents": {"type": "coprocessor"}}, "data": {"examples": {"stage": 9, "thoughts": 0}}},
        "coconut": {"model": {"type": "coconut"}, "data": {"examples": {"thoughts": 1}}}},
      "from": {"continued": "direct", "coprocessor": "direct", "coconut": "steps"},
      "staged": ["coconut"], "shuffled": ["coprocessor"],
      "compared": {"coprocessor": ["coprocessor_shuffled", "continued", "steps"], "coconut": ["steps"]},
      "presets": {"tiny": {"seeds": [3], "stages": {"graphs": 2},
        "cells": {"direct": [], "steps": [], "continued": [], "coprocessor": [2, 3], "coconut": []}}}})");
    t.merge_patch(patch);
    write_file_atomically(directory_ / "table.json", json_text(t));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    o.without_data = !with_data;
    return o;
  }
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(BenchmarkReproTest, ModelsBeginWithThoseBeforeThem) {
  const auto runs = plan_table(options());
  std::vector<std::string> order;
  for (const PlannedRun& r : runs) order.push_back(r.cell.model + "/" + r.cell.level_name);
  EXPECT_THAT(order, ElementsAre("direct/graphs", "steps/graphs", "continued/graphs",
                                 "coprocessor/graphs-2", "coprocessor/graphs-3",
                                 "coconut/graphs-stage1", "coconut/graphs-stage2"));
  const auto value = [&](size_t i, const char* object, const char* key) {
    return runs[i].config.at(object).at(key).json();
  };
  EXPECT_EQ(value(2, "model", "path"), runs[0].directory + "/hugging_face");
  EXPECT_EQ(value(4, "model", "base"), runs[0].directory + "/hugging_face");
  EXPECT_EQ(value(5, "model", "base"), runs[1].directory + "/hugging_face");
  EXPECT_EQ(value(6, "model", "base"), runs[5].directory + "/hugging_face");
  EXPECT_EQ(runs[4].config.at("model").at("latents").at("count").json(), 3);
  EXPECT_EQ(runs[6].config.at("data").at("examples").at("stage").json(), 2);
  // Stages share their steps.
  EXPECT_EQ(value(5, "train", "steps"), 2);
  EXPECT_EQ(value(6, "train", "steps"), 1);
  EXPECT_THAT(plan_table_text(options()), HasSubstr("coprocessor          graphs"));
}

TEST_F(BenchmarkReproTest, ErrorsSayWhatAndWhere) {
  const auto refused = [&](const char* patch) {
    return message_of<ConfigError>([&] { plan_table(options(parse_json(patch))); });
  };
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"cells": {"coprocessor": []}}}})"),
              HasSubstr("wanted their numbers"));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"cells": {"continued": [4]}}}})"),
              HasSubstr("this model has none; wanted []"));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"cells": {"direct": null}}}})"),
              HasSubstr("continued begins with the weights of direct, which must stand before it"));
  EXPECT_THAT(refused(R"({"models": {"coprocessor": {"model": {"insert": "drawn"}}}})"),
              HasSubstr("wanted \"targets\""));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"stages": {"graphs": 4}}}})"),
              HasSubstr("4 stages share 3 steps"));
  EXPECT_THAT(refused(R"({"tasks": {"graphs": {"data": {"problems": null}}}})"),
              HasSubstr("no questions and answers"));
  EXPECT_THAT(
      refused(
          R"({"presets": {"tiny": {"asked": {"model": "x", "tasks": {"a": {"base": "copa"}}}}}})"),
      HasSubstr("got both"));
  EXPECT_THAT(refused(R"({"from": {"coconut": null}})"), HasSubstr("what coconut begins with"));
  const auto asked = [&](const std::string& every) {
    return refused(
        (R"({"presets": {"other": {"seeds": [1], "asked": {"model": "x", "tasks": {"a": )"
         R"({"base": "copa"}}, "latents_every": )" +
         every + "}}}}")
            .c_str());
  };
  EXPECT_THAT(asked("[0, 16, 16]"), HasSubstr("latents_every holds 16 twice"));
  EXPECT_THAT(asked("[]"), HasSubstr("latents_every is empty"));
  EXPECT_THAT(asked("[-1]"), HasSubstr("latents_every"));
}

// A published model is asked where the table's runs would be.
TEST_F(BenchmarkReproTest, ThePublishedModelIsAskedOnTheTablesDevice) {
  const Json patch = parse_json(R"({"presets": {"asked": {"seeds": [1], "patch": {"device": "cuda"},
    "asked": {"model": "nowhere", "tasks": {"copa": {"base": "copa"}}}}}})");
  ReproOptions o = options(patch, true);
  EXPECT_EQ(read_table_file(o).device, "cpu");
  o.preset = "asked";
  EXPECT_EQ(read_table_file(o).device, "cuda");
  if (!cuda::status().usable) {
    EXPECT_THAT(message_of<ConfigError>([&] { run_table(o); }), HasSubstr("$.device is cuda:"));
  }
  o.overrides = {"device=cpu"};
  EXPECT_EQ(read_table_file(o).device, "cpu");
  o.overrides = {"device=\"gpu\""};
  EXPECT_THAT(message_of<ConfigError>([&] { run_table(o); }), HasSubstr("wanted cpu or cuda"));
}

TEST_F(BenchmarkReproTest, TrainsAnswersWritesAndGoesOn) {
  const WorkingFolder here(directory_.path());  // prepared data go into data/
  const ReproOptions o = options(Json::object(), true);
  EXPECT_EQ(run_table(o), 0);
  const std::string file = directory_ / "out/table.json";
  const Json json = parse_json(read_file(file));
  EXPECT_EQ(json["finished_runs"], 7);
  ASSERT_EQ(json["rows"].size(), 9u) << "two numbers of latents are shuffled, too";
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["verdict"], "causal") << row;
    EXPECT_EQ(row["items"], 12) << row;
    EXPECT_EQ(row["chance"], 0.5) << row;
    EXPECT_GT(row["measured"]["tokens_written"]["mean"], 0) << row;
  }
  ASSERT_EQ(json["findings"].size(), 3u) << "of stages, the last alone";
  EXPECT_EQ(json["findings"][2]["stage"], 2);
  EXPECT_EQ(json["findings"][0]["against"].size(), 4u);
  for (const char* name : {"table.md", "table.csv", "report.html", "graphs.svg"})
    EXPECT_TRUE(std::filesystem::exists(directory_ / (std::string("out/") + name))) << name;
  EXPECT_EQ(run_table(o), 0) << "all of it is there";
  EXPECT_EQ(parse_json(read_file(file))["rows"], json["rows"]);
}

// Parts of a table that were trained elsewhere, and came without their weights.
TEST_F(BenchmarkReproTest, KeptRunsNeedNoWeightsAndNoPlace) {
  namespace fs = std::filesystem;
  const WorkingFolder here(directory_.path());
  ReproOptions o = options(Json::object(), true);
  ASSERT_EQ(run_table(o), 0);
  const Json rows = parse_json(read_file(directory_ / "out/table.json"))["rows"];
  for (const PlannedRun& run : plan_table(o))
    for (const char* part : {"checkpoints", "hugging_face"})
      fs::remove_all(fs::path(run.directory) / part);
  fs::create_directory(directory_ / "moved");
  fs::rename(directory_ / "out/runs", directory_ / "moved/runs");
  o.directory = directory_ / "moved";
  for (const bool report_only : {true, false}) {
    o.report_only = report_only;
    EXPECT_EQ(run_table(o), 0);
    EXPECT_EQ(parse_json(read_file(directory_ / "moved/table.json"))["rows"], rows);
  }

  const auto runs = plan_table(o);
  const std::string answers = read_file(runs[2].directory + "/problem_answers.json");
  fs::remove_all(runs[2].directory);
  EXPECT_THAT(message_of<UserError>([&] { run_table(o); }),
              AllOf(HasSubstr("continued/graphs seed 3"),
                    HasSubstr("wants the weights of " + runs[0].directory)));
  EXPECT_FALSE(fs::exists(runs[2].directory)) << "before anything is trained";
  o.only = {"coprocessor"};
  EXPECT_EQ(run_table(o), 0) << "nothing that wants the weights is asked for";
  o.only = {};
  fs::remove_all(runs[0].directory);
  EXPECT_EQ(run_table(o), 0);
  EXPECT_EQ(parse_json(read_file(runs[2].directory + "/problem_answers.json"))["own"]["right"],
            parse_json(answers)["own"]["right"]);
}

}  // namespace
}  // namespace reverie
