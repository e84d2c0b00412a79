// Tables of latents: rows, controls, files, and runs from a table's file to its rows.

#include "core/json.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/latents/latent_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "core/cuda.h"
#include "core/error.h"
#include "core/files.h"
#include "core/signals.h"
#include "datasets/dataset.h"
#include "layers/linear.h"
#include "layers/pretrained/load.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/exporting/random_base.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/latents/latent_plan.h"
#include "trainers/tables/repro.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

using testing::message_of;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryDirectory;

// Eight texts, four positions; the base loses 1.5 nats a token, the model `by` less at position 1
// and nothing less at position 4, a little apart in every text.
PositionLosses losses(double by) {
  PositionLosses out;
  out.positions = 4;
  out.rule = "5 offsets";
  for (int text = 0; text < 8; ++text) {
    PositionLosses::Text t;
    for (int insertion = 0; insertion < 5; ++insertion) {
      t.offsets.push_back(3 * insertion + 1);
      for (int p = 0; p < 4; ++p) {
        const double base = 1.5 + 0.1 * text, gain = by * (3 - p) / 3 * (1 + 0.02 * (text - 3.5));
        t.base.push_back(base);
        t.model.push_back(base - gain);
      }
    }
    out.texts.push_back(t);
  }
  return out;
}

LatentRun run(const std::string& model, int64_t latents, int64_t seed, double by,
              std::optional<double> shuffled_by = {}) {
  LatentRun r;
  r.model = model;
  r.latents = latents;
  r.seed = seed;
  r.measurement.own = losses(by);
  if (shuffled_by) r.measurement.shuffled = losses(*shuffled_by);
  r.measurement.costs = {1000 + latents, 2e6, latents * 1e6, 1.5};
  r.measurement.base_costs = {0, 1e6, 0, 1.0};
  r.summary = {{"seconds", 10.0},
               {"commit", "0123456789abcdef"},
               {"dataset", {{"name", "stories"}, {"note", ""}, {"hash", "abc"}}}};
  r.directory = "runs/" + model + std::to_string(seed);
  return r;
}

Json definition() {
  return parse_json(R"({
    "title": "latents", "base": "base.bin", "shown": [1, 4, 32], "planned_runs": 9,
    "models": {"coprocessor": {"title": "Coprocessor"},
               "coprocessor_shuffled": {"title": "Shuffled"},
               "pause": {"title": "Pause"}, "continued": {"title": "Continued"}},
    "paper": {"coprocessor": {"8": {"1": -1.53, "4": -1.39}}}})");
}

LatentTable latent_table(Json definition, const std::vector<LatentRun>& runs, int64_t resamples) {
  const LatentHeading heading{testing::take_heading(definition),
                              testing::taken<std::string>(definition, "base", ""),
                              testing::taken<std::vector<int64_t>>(definition, "shown", {})};
  return build_latent_table(testing::read_report<LatentReport>(definition), heading, runs,
                            resamples);
}

std::vector<LatentRun> runs() {
  return {run("continued", 0, 1, 0.08), run("pause", 8, 1, 0.01),
          run("coprocessor", 8, 2, 0.06, -0.3), run("coprocessor", 8, 1, 0.04, -0.2),
          run("coprocessor", 16, 1, 0.09, -0.5)};
}

TEST(LatentTable, RowsHaveTheShapeOfTheContract) {
  const Json json = latent_table_json(latent_table(definition(), runs(), 200));
  // Five lines of four positions, in the order of the models and then of the latents.
  ASSERT_EQ(json["rows"].size(), 6u * 4);
  std::vector<std::string> order;
  for (const Json& line : json["all_positions"])
    order.push_back(line["model"].get<std::string>() + std::to_string(int(line["latents"])));
  EXPECT_THAT(order, ElementsAre("coprocessor8", "coprocessor16", "coprocessor_shuffled8",
                                 "coprocessor_shuffled16", "pause8", "continued0"));
  const Json& row = json["rows"][0];
  EXPECT_EQ(row["model"], "coprocessor");
  EXPECT_EQ(row["latents"], 8);
  EXPECT_EQ(row["position"], 1);
  EXPECT_EQ(row["paper"], Json({{"ppl_change_percent", -1.53}}));
  EXPECT_EQ(row["seeds"], Json({1, 2}));
  const Json& change = row["measured"]["ppl_change_percent"];
  const double first = 100 * (std::exp(-0.04) - 1), second = 100 * (std::exp(-0.06) - 1);
  EXPECT_NEAR(change["mean"].get<double>(), (first + second) / 2, 1e-9);
  EXPECT_NEAR(change["sd"].get<double>(), std::abs(first - second) / std::sqrt(2), 1e-9);
  EXPECT_EQ(change["n"], 2);
  EXPECT_LT(change["low"].get<double>(), change["mean"].get<double>());
  EXPECT_GT(change["high"].get<double>(), change["mean"].get<double>());
  EXPECT_NEAR(row["measured"]["base_perplexity"].get<double>(), std::exp(1.85), 1e-9);
  EXPECT_NEAR(row["measured"]["perplexity"].get<double>(), std::exp(1.85 - 0.05), 1e-9);
  EXPECT_TRUE(json["rows"][1]["paper"].is_null());  // position 2
  EXPECT_NEAR(json["rows"][3]["measured"]["ppl_change_percent"]["mean"].get<double>(), 0, 1e-9);
  EXPECT_TRUE(json["rows"][4]["paper"].is_null());                                 // 16 latents
  EXPECT_TRUE(json["rows"][4]["measured"]["ppl_change_percent"]["sd"].is_null());  // one seed
  EXPECT_GT(json["rows"][8]["measured"]["ppl_change_percent"]["mean"].get<double>(), 20);
  EXPECT_EQ(json["finished_runs"], 5);
  EXPECT_EQ(json["planned_runs"], 9);
  EXPECT_EQ(json["all_positions"][0]["costs"]["trainable_parameters"], 1008);
  EXPECT_EQ(json["provenance"]["total_seconds"], 50.0);
  EXPECT_EQ(parse_json(json_text(json)), json);
}

TEST(LatentTable, TheTextsOfTheFilesAgree) {
  const LatentTable table = latent_table(definition(), runs(), 200);
  const std::string markdown = latent_table_markdown(table), csv = latent_table_csv(table),
                    html = latent_report_html(table);
  EXPECT_THAT(markdown, HasSubstr("**5 of 9 planned runs have finished.**"));
  EXPECT_THAT(markdown, HasSubstr("| Coprocessor | 8 | \u22124.87 % \u00b1 1.35 | 0.00 %"));
  EXPECT_THAT(markdown, HasSubstr("| *the paper* | 8 | \u22121.53 % | \u22121.39 % |"));
  EXPECT_THAT(markdown, Not(HasSubstr("| 32 |")));  // shown, but not measured
  std::istringstream lines(csv);
  std::string line;
  std::getline(lines, line);
  EXPECT_THAT(line, HasSubstr("model,latents,position,ppl_change_percent"));
  size_t count = 0;
  const size_t commas = size_t(std::count(line.begin(), line.end(), ','));
  for (; std::getline(lines, line); ++count)
    EXPECT_EQ(size_t(std::count(line.begin(), line.end(), ',')), commas) << line;
  EXPECT_EQ(count, 24u);
  EXPECT_THAT(html, HasSubstr("the paper"));
  EXPECT_THAT(html, HasSubstr("8 latents"));
  EXPECT_THAT(html, HasSubstr("<svg"));
  for (const char* part : {">nan", "\"nan", " nan", "nan "})
    EXPECT_THAT(html, Not(HasSubstr(part)));
}

// One run of a line is enough to label every number of it, in every file.
TEST(LatentTable, ALeakLabelsItsLineEverywhereAndNoOther) {
  auto leaking = runs();
  leaking[2].verdict.add({"latents: other text behind a group's limit", "group 0", 1.0, 1e-6, 0});
  leaking[3].verdict.add({"latents: other text behind a group's limit", "group 0", 0.0, 1e-6, 0});
  const LatentTable table = latent_table(definition(), leaking, 200);
  const Json json = latent_table_json(table);
  for (const Json& row : json["rows"]) {
    const bool leaks = row["latents"] == 8 && row["model"] != "pause";
    EXPECT_EQ(row["verdict"], leaks ? "LEAKS" : "unknown") << row["model"];
    EXPECT_EQ(row.contains("label"), leaks);
  }
  std::istringstream lines(latent_table_markdown(table)), csv(latent_table_csv(table));
  std::string line;
  int labelled = 0;
  while (std::getline(lines, line))
    if (line.starts_with("| Coprocessor | 8 |") || line.starts_with("| Shuffled | 8 |")) {
      if (line.find('%') == std::string::npos) continue;  // costs
      ++labelled;
      EXPECT_THAT(line, ::testing::EndsWith("| **LEAKS** |"));
      EXPECT_THAT(line, ::testing::ContainsRegex("% \u00b1 [0-9.]+  LEAKS \\|"));
    } else if (line.starts_with("| Pause") || line.starts_with("| Continued")) {
      EXPECT_THAT(line, Not(HasSubstr("LEAKS")));
    }
  EXPECT_EQ(labelled, 2);
  int csv_labelled = 0;
  while (std::getline(csv, line)) csv_labelled += line.ends_with(",LEAKS");
  EXPECT_EQ(csv_labelled, 2 * 4);
  EXPECT_THAT(explain_latents(table), Not(HasSubstr("Coprocessor with 16 latents (LEAKS)")));
  EXPECT_THAT(latent_report_html(table), HasSubstr("LEAKS"));
  EXPECT_THAT(latent_report_html(latent_table(definition(), runs(), 200)), Not(HasSubstr("LEAKS")));
}

TEST(LatentTable, SaysPlainlyWhatBeatsWhat) {
  const std::string text = explain_latents(latent_table(definition(), runs(), 200));
  // Of those with as many latents, and those without.
  EXPECT_THAT(text, HasSubstr("Coprocessor with 16 latents changes"));
  EXPECT_THAT(text, HasSubstr("It beats: Shuffled with 16 latents"));
  EXPECT_THAT(text, Not(HasSubstr("Pause")));
  // Each is compared with the coprocessor of as many latents, whichever the sentences are about.
  Json of_eight = definition();
  of_eight["subject_latents"] = 8;
  const LatentTable eight = latent_table(of_eight, runs(), 50);
  EXPECT_EQ(eight.subject(), eight.find("coprocessor", 8));
  EXPECT_THAT(explain_latents(eight), HasSubstr("Pause with 8 latents"));
  for (const LatentTable& table : {eight, latent_table(definition(), runs(), 50)})
    EXPECT_NEAR(table.find("pause", 8)->subject_against_it->all.change_percent,
                eight.find("pause", 8)->subject_against_it->all.change_percent, 1e-12);
  auto worse = runs();
  worse.erase(worse.begin() + 4);
  const std::string beaten = explain_latents(latent_table(definition(), worse, 200));
  EXPECT_THAT(beaten, HasSubstr("beaten by: Continued"));
  EXPECT_THAT(beaten, HasSubstr("It beats: Shuffled with 8 latents"));
}

// Texts gain by much and by little alike under both models, so that their intervals overlap widely;
// but one gains 0.01 nats more on every text.
TEST(LatentTable, ControlsAreComparedTextByText) {
  const auto spread = [](LatentRun r) {
    for (size_t text = 0; text < r.measurement.own.texts.size(); ++text)
      for (double& loss : r.measurement.own.texts[text].model) loss += 0.1 * double(text);
    return r;
  };
  LatentRun subject = spread(run("coprocessor", 8, 1, 0.0)),
            control = spread(run("pause", 8, 1, 0.0));
  for (auto& text : subject.measurement.own.texts)
    for (double& loss : text.model) loss -= 0.01;
  const LatentTable table = latent_table(definition(), {subject, control}, 200);
  const LatentLine& line = *table.find("pause", 8);
  EXPECT_EQ(table.subject(), table.find("coprocessor", 8));
  EXPECT_FALSE(table.subject()->subject_against_it);
  EXPECT_GT(table.subject()->effect.all.high, line.effect.all.low);
  ASSERT_TRUE(line.subject_against_it);
  const double change = 100 * (std::exp(-0.01) - 1);
  ASSERT_EQ(line.subject_against_it->by_position.size(), 4u);
  for (const auto& p : {line.subject_against_it->all, line.subject_against_it->by_position[2]}) {
    EXPECT_NEAR(p.change_percent, change, 1e-9);
    EXPECT_NEAR(p.low, change, 1e-9);
    EXPECT_NEAR(p.high, change, 1e-9);
  }
  EXPECT_THAT(latent_table_markdown(table), HasSubstr("## Coprocessor against each, text by text"));
  EXPECT_THAT(latent_report_html(table), HasSubstr("Coprocessor against each, text by text"));
  EXPECT_THAT(explain_latents(table), HasSubstr("It beats: Pause with 8 latents"));
  const Json json = latent_table_json(table);
  EXPECT_TRUE(json["all_positions"][0]["subject_against_it"].is_null());
  EXPECT_NEAR(json["all_positions"][1]["subject_against_it"]["mean"].get<double>(), change, 1e-9);
  // The other way round it is beaten, and by as much.
  const LatentTable turned = latent_table(definition(),
                                          {spread(run("pause", 8, 1, 0.0)),
                                           [&] {
                                             LatentRun worse = subject;
                                             for (auto& text : worse.measurement.own.texts)
                                               for (double& loss : text.model) loss += 0.02;
                                             return worse;
                                           }()},
                                          200);
  EXPECT_NEAR(turned.find("pause", 8)->subject_against_it->all.change_percent,
              100 * (std::exp(0.01) - 1), 1e-9);
  EXPECT_THAT(explain_latents(turned), HasSubstr("beaten by: Pause with 8 latents"));
}

// Position 1 and all positions against the insertions in training, for models that are named so.
TEST(LatentTable, LongerAndLongerTrainingIsACurve) {
  Json wanted = definition();
  wanted["models"] = {{"short", {{"title", "Short"}}}, {"long", {{"title", "Long"}}}};
  wanted.erase("paper");
  std::vector<LatentRun> two{run("short", 8, 1, -0.2), run("long", 8, 1, 0.1)};
  two[0].training_insertions = 24000;
  two[1].training_insertions = 48000;
  const auto files = [&] {
    std::set<std::string> names;
    for (const PlotFile& plot : latent_plot_files(latent_table(wanted, two, 20)))
      names.insert(plot.name);
    return names;
  };
  EXPECT_FALSE(files().contains("by_training.svg")) << "nobody asked for it";
  wanted["curve"] = {"short", "long"};
  EXPECT_TRUE(files().contains("by_training.svg"));
  const LatentTable table = latent_table(wanted, two, 20);
  const std::string html = latent_report_html(table);
  EXPECT_THAT(html, HasSubstr("position 1, insertions in training 24000: 22.1"));
  EXPECT_THAT(html, HasSubstr("position 1, insertions in training 48000: -9.5"));
  EXPECT_EQ(latent_table_json(table)["all_positions"][1]["training_insertions"], 48000);
  wanted["curve"] = {"short", "lnog"};
  EXPECT_THAT(message_of<ConfigError>([&] { latent_table(wanted, two, 20); }),
              HasSubstr("no model \"lnog\""));
}

TEST(LatentTable, WhatDoesNotBelongTogetherIsRefused) {
  auto twice = runs();
  twice.push_back(twice[2]);
  EXPECT_THAT(message_of<UserError>([&] { latent_table(definition(), twice, 10); }),
              HasSubstr("seed 2"));
  auto other_texts = runs();
  other_texts[1].measurement.own.texts.pop_back();
  EXPECT_THAT(message_of<UserError>([&] { latent_table(definition(), other_texts, 10); }),
              HasSubstr("same texts"));
  auto other_base = runs();
  other_base[1].measurement.own.texts[3].base[2] *= 1.01;
  EXPECT_THAT(message_of<UserError>([&] { latent_table(definition(), other_base, 10); }),
              HasSubstr("same texts"));
  auto other_points = runs();
  other_points[1].measurement.own.texts[3].offsets[2] += 1;
  EXPECT_THAT(message_of<UserError>([&] { latent_table(definition(), other_points, 10); }),
              HasSubstr("insertions"));
  auto other_data = runs();
  other_data[1].summary["dataset"]["hash"] = "def";
  EXPECT_THAT(message_of<UserError>([&] { latent_table(definition(), other_data, 10); }),
              HasSubstr("other data"));
  Json bad = definition();
  bad["paper"]["coprocessor"]["eight"] = Json::object();
  EXPECT_THAT(message_of<ConfigError>([&] { latent_table(bad, runs(), 10); }),
              HasSubstr("number of latents"));
  bad = definition();
  bad["papers"] = Json::object();
  EXPECT_THAT(message_of<ConfigError>([&] { latent_table(bad, runs(), 10); }),
              HasSubstr("\"paper\""));
}

TEST(LatentTable, MeasurementsSurviveTheirFile) {
  const LatentMeasurement m = run("coprocessor", 8, 1, 0.04, -0.2).measurement;
  EXPECT_EQ(LatentMeasurement::from_json(parse_json(json_text(m.json()))).json(), m.json());
  Json broken = m.json();
  broken["own"]["texts"][1]["base"].erase(0);
  EXPECT_THROW(LatentMeasurement::from_json(broken), DataError);
  EXPECT_THROW(LatentMeasurement::from_json(Json::object()), DataError);
}

// ---- from the table's file ---------------------------------------------------------------------
class LatentReproTest : public ::testing::Test {
 protected:
  LatentReproTest() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 400; ++i)
      text << "The " << i * i % 97 << ". line of a made-up text, to be learnt.\n";
  }
  Json table() const {
    Json t = parse_json(R"({
      "kind": "latent_effect", "title": "a small table of latents",
      "report": {"paper": {"coprocessor": {"2": {"1": -1.5}}}},
      "base": {"data": {}, "train": {"steps": 4, "batch_size": 4},
        "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}, "optimizer": {"warmup_steps": 1, "learning_rate": 0.01}},
      "augmented": {"model": {"type": "augmented", "block_size": 16, "groups": 4, "ahead": 4}},
      "models": {
        "coprocessor": {"model": {"latents": {"type": "coprocessor"}}},
        "pause": {"model": {"latents": {"type": "soft_embeddings"}}},
        "cotrained": {"model": {"latents": {"type": "coprocessor"}, "train_base": true}},
        "continued": {"model": {"type": "pretrained", "block_size": 16}}},
      "shuffled": ["coprocessor", "pause"],
      "measure": {"positions": 6, "points": 3, "windows": 9, "shown": [1, 4], "resamples": 20},
      "presets": {"tiny": {
        "cells": {"coprocessor": [2], "pause": [2], "cotrained": [2], "continued": []}, "seeds": [1, 2],
        "pretraining": {"model": {"type": "llama", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32},
          "train": {"steps": 30}}}}})");
    t["base"]["data"] = {{"path", directory_ / "text.txt"},
                         {"prepared_directory", directory_ / "tokens"}};
    return t;
  }
  ReproOptions options(const Json& table) const {
    write_file_atomically(directory_ / "table.json", json_text(table));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    return o;
  }
  std::string refused(const Json& table) const {
    return message_of<ConfigError>([&] { plan_table(options(table)); });
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(LatentReproTest, TheBaseComesFirstAndEveryCellsFirstSeedBeforeAnysSecond) {
  const auto runs = plan_table(options(table()));
  std::vector<std::string> order;
  for (const PlannedRun& r : runs)
    order.push_back(fmt::format("{}/{}/{}", r.cell.model, r.cell.level, r.seed));
  EXPECT_THAT(order, ElementsAre("base/0/1", "coprocessor/2/1", "pause/2/1", "cotrained/2/1",
                                 "continued/0/1", "coprocessor/2/2", "pause/2/2", "cotrained/2/2",
                                 "continued/0/2"));
  EXPECT_FALSE(runs[0].in_table);
  EXPECT_EQ(runs[0].config.at("train").at("steps").json(), 30);
  const std::string base = runs[0].directory + "/hugging_face";
  EXPECT_EQ(runs[1].config.at("model").at("base").json(), base);
  EXPECT_EQ(runs[1].config.at("model").at("latents").at("count").json(), 2);
  EXPECT_EQ(runs[4].config.at("model").at("path").json(), base);
  EXPECT_FALSE(runs[4].config.at("model").has("groups"));
}

TEST_F(LatentReproTest, ErrorsSayWhatAndWhere) {
  Json t = table();
  t["kind"] = "latents";
  EXPECT_THAT(refused(t), HasSubstr("latent_effect, losses"));
  t = table();
  t["block_sizes"] = Json::object();  // of the other kind
  EXPECT_THAT(refused(t), HasSubstr("block_sizes"));
  t = table();
  t["presets"]["tiny"]["cell"] = Json::object();
  EXPECT_THAT(refused(t), HasSubstr("\"cells\""));
  t = table();
  t["presets"]["tiny"]["cells"]["coprocesor"] = {2};
  EXPECT_THAT(refused(t), HasSubstr("coprocesor"));
  t = table();
  t["presets"]["tiny"]["cells"]["coprocessor"] = Json::array();
  EXPECT_THAT(refused(t), HasSubstr("is empty"));
  t = table();
  t["presets"]["tiny"]["cells"]["continued"] = {4};
  EXPECT_THAT(refused(t), HasSubstr("4 latents are asked for, but this model has none"));
  t = table();
  t["presets"]["tiny"]["base_model"] = "base.bin";
  EXPECT_THAT(refused(t), HasSubstr("both"));
  t["presets"]["tiny"].erase("base_model");
  t["presets"]["tiny"].erase("pretraining");
  EXPECT_THAT(refused(t), HasSubstr("neither"));
  t = table();
  t["measure"]["position"] = 3;
  EXPECT_THAT(refused(t), HasSubstr("\"positions\""));
  t = table();
  t["measure"]["groups"] = 3;
  EXPECT_THAT(refused(t), HasSubstr("give \"points\""));
  t = table();
  t["shuffled"] = {"nobody"};
  EXPECT_THAT(refused(t), HasSubstr("nobody"));
}

TEST_F(LatentReproTest, TrainsTheBaseAndTheCellsMeasuresAndReuses) {
  const ReproOptions o = options(table());
  ASSERT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  const auto runs = plan_table(o);
  ASSERT_EQ(json["rows"].size(), 6u * 6);  // shuffled lines of coprocessor and pause
  EXPECT_EQ(json["finished_runs"], 8);
  EXPECT_EQ(json["planned_runs"], 8);
  const Config trained = Config::from_file(runs[1].directory + "/config.resolved.json");
  const Json batch = trained.at("train").json(), shape = trained.at("model").json();
  EXPECT_EQ(json["all_positions"][0]["training_insertions"],
            batch["steps"].get<int64_t>() * batch["batch_size"].get<int64_t>() *
                shape["groups"].get<int64_t>());
  for (const char* file : {"table.md", "table.csv", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(o.directory + "/" + file)) << file;

  const auto change = [&](const std::string& model, int position) {
    for (const Json& row : json["rows"])
      if (row["model"] == model && row["position"] == position)
        return row["measured"]["ppl_change_percent"]["mean"].get<double>();
    ADD_FAILURE() << model;
    return 0.0;
  };
  // Latents that read a text are not another text's; those that read nothing are the same for all.
  EXPECT_GT(std::abs(change("coprocessor", 1) - change("coprocessor_shuffled", 1)), 1e-6);
  EXPECT_NEAR(change("pause", 1), change("pause_shuffled", 1), 1e-4);
  // Every line's base is the untouched one, also where the run trained it.
  for (const Json& row : json["rows"])
    EXPECT_NEAR(row["measured"]["base_perplexity"].get<double>(),
                json["base"]["perplexity"][size_t(row["position"]) - 1].get<double>(), 1e-9);
  const auto costs = [&](const std::string& model) {
    for (const Json& line : json["all_positions"])
      if (line["model"] == model) return line["costs"];
    return Json();
  };
  EXPECT_EQ(costs("pause")["trainable_parameters"], 2 * 16);
  EXPECT_EQ(costs("pause")["device"], "cpu");
  EXPECT_EQ(json["base"]["costs"]["device"], "cpu");
  EXPECT_FALSE(parse_json(read_file(runs[1].directory + "/latent_effect.json"))["of"].contains(
      "device"));  // as measurements of earlier versions, which stay good
  EXPECT_GT(costs("cotrained")["trainable_parameters"],
            costs("coprocessor")["trainable_parameters"]);
  EXPECT_EQ(costs("continued")["flops_per_insertion"], 0.0);
  EXPECT_GT(costs("coprocessor")["flops_per_insertion"], costs("pause")["flops_per_insertion"]);

  // The same command again trains and measures nothing.
  const auto time_of = [&](const std::string& file) {
    return std::filesystem::last_write_time(runs[1].directory + file);
  };
  const auto summary = time_of("/summary.json"), effect = time_of("/latent_effect.json");
  ASSERT_EQ(run_table(o), 0);
  EXPECT_EQ(time_of("/summary.json"), summary);
  EXPECT_EQ(time_of("/latent_effect.json"), effect);
  // Another measurement of the same runs is one.
  Json more = table();
  more["measure"]["positions"] = 7;
  ASSERT_EQ(run_table(options(more)), 0);
  EXPECT_EQ(time_of("/summary.json"), summary);
  EXPECT_NE(time_of("/latent_effect.json"), effect);
  EXPECT_EQ(parse_json(read_file(o.directory + "/table.json"))["rows"].size(), 6u * 7);
  // So is the same behind other insertions, and one that an earlier version left.
  more["measure"]["offsets"] = "every";
  ASSERT_EQ(run_table(options(more)), 0);
  const Json every = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(every["all_positions"][0]["insertions"], 8 * 10) << "10 offsets in each of 8 texts";
  EXPECT_EQ(every["all_positions"][0]["rule"],
            "at every offset from 1 to T - 6 of a text of T tokens");
  Json old = parse_json(read_file(runs[1].directory + "/latent_effect.json"));
  old["of"]["format"] = "reverie latent effect 1";
  old["measured"] = Json::object();
  write_file_atomically(runs[1].directory + "/latent_effect.json", json_text(old));
  ASSERT_EQ(run_table(options(more)), 0);
  EXPECT_EQ(parse_json(read_file(o.directory + "/table.json"))["rows"], every["rows"]);
}

// Losses and milliseconds of a run and of its base are of one device.
TEST_F(LatentReproTest, TheBaseIsMeasuredOnTheDeviceOfItsRun) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny["pretraining"]["train"]["steps"] = 2;
  tiny["cells"] = {{"pause", {2}}};
  tiny["seeds"] = {1};
  ReproOptions o = options(t);
  o.overrides = {"device=cuda", "train.steps=2"};
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  const Json measured = parse_json(read_file(runs[1].directory + "/latent_effect.json"));
  EXPECT_EQ(measured["of"]["device"], "cuda");
  for (const char* costs : {"costs", "base_costs"})
    EXPECT_EQ(measured["measured"][costs]["device"], "cuda") << costs;
  EXPECT_THAT(read_file(o.directory + "/table.md"), HasSubstr("its next token, on device cuda."));

  const std::string base = runs[0].directory + "/hugging_face";
  const Device gpu{DeviceKind::cuda, 0};
  const UsableModel on_gpu = open_model(base, {.device = gpu}), on_cpu = open_model(base);
  for (const auto& [name, v] : on_gpu.model->parameters()) EXPECT_EQ(v.device(), gpu) << name;
  for (const auto& [name, v] : on_cpu.model->parameters()) EXPECT_EQ(v.device(), Device{}) << name;
  const LoadedRun run = load_run(runs[1].directory);
  const Dataset data = prepare_and_open(run.options.data);
  const EvaluationWindows windows(data.validation, 4, 16, 4);
  EXPECT_THAT(message_of<UserError>([&] {
                measure_latents(*run.model, *on_cpu.model, windows,
                                {.rule = {.points = 2, .positions = 3}}, false);
              }),
              HasSubstr("on device cuda and its base on cpu"));
}

// One model whose latents come two tokens late moves everybody's first insertion.
TEST_F(LatentReproTest, APointTooEarlyForOneIsLeftOutForAll) {
  Json t = table();
  t["models"]["late"] =
      Json::parse(R"({"model": {"latents": {"type": "coprocessor"}, "delay": 2}})");
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["measure"]["offsets"] = "every";
  ASSERT_EQ(run_table(options(t)), 0);
  const auto insertions = [&] {
    std::set<std::string> found;
    const Json written = parse_json(read_file(directory_ / "out/table.json"));
    for (const Json& line : written["all_positions"])
      found.insert(fmt::format("{}: {}", line["insertions"].dump(), line["rule"].dump()));
    return found;
  };
  EXPECT_THAT(insertions(),
              ElementsAre("88: \"at every offset from 1 to T - 5 of a text of T tokens\""));
  t["presets"]["tiny"]["cells"]["late"] = {2};
  ASSERT_EQ(run_table(options(t)), 0);
  EXPECT_THAT(insertions(),
              ElementsAre("72: \"at every offset from 3 to T - 5 of a text of T tokens\""));
}

// A kill may come between a run's last checkpoint and its page.
TEST_F(LatentReproTest, WhatAKilledRunLeftUndoneIsDone) {
  Json t = table();
  t["presets"]["tiny"]["cells"] = {{"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const std::string run = plan_table(o)[1].directory;
  const std::string page = run + "/report.html", lock = run + "/run.lock";
  ASSERT_TRUE(std::filesystem::remove(page));
  std::ofstream(lock).close();
  ASSERT_EQ(run_table(o), 0);
  EXPECT_TRUE(std::filesystem::exists(page));
  EXPECT_FALSE(std::filesystem::exists(lock));
}

// The export that later runs begin with, and what was measured, are of the newest checkpoint.
TEST_F(LatentReproTest, WhatWasMadeFromOtherWeightsIsMadeAnew) {
  Json t = table();
  t["presets"]["tiny"]["cells"] = {{"pause", {2}}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  for (const std::string& file : {runs[0].directory + "/hugging_face/exported_from.json",
                                  runs[1].directory + "/latent_effect.json"}) {
    const Json made = parse_json(read_file(file));
    Json stale = made;
    stale["checkpoint_weights"] = "of other weights";
    write_file_atomically(file, json_text(stale));
    EXPECT_EQ(run_table(o), 0);
    EXPECT_EQ(parse_json(read_file(file))["checkpoint_weights"], made["checkpoint_weights"]);
  }
}

TEST_F(LatentReproTest, RunsBesideABaseThatWasReplacedAreRefused) {
  const std::string base = directory_ / "base";
  const auto replace_base = [&](int64_t width) {
    std::filesystem::remove_all(base);
    write_random_base({{"type", "llama"},
                       {"vocab_size", 65},
                       {"block_size", 32},
                       {"n_layer", 2},
                       {"n_head", 2},
                       {"n_embd", 16},
                       {"n_hidden", width}},
                      base);
  };
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny.erase("pretraining");
  tiny["base_model"] = base;
  // The first run's base is frozen, the second's is trained.
  for (const Json& cells : {Json{{"pause", {2}}}, Json{{"continued", Json::array()}}}) {
    tiny["cells"] = cells;
    tiny["seeds"] = {1};
    replace_base(32);
    ASSERT_EQ(run_table(options(t)), 0);
    replace_base(48);
    tiny["seeds"] = {1, 2};
    for (const bool report_only : {true, false}) {
      ReproOptions o = options(t);
      o.report_only = report_only;
      EXPECT_THAT(message_of<DataError>([&] { run_table(o); }),
                  AllOf(HasSubstr(base), HasSubstr("has other weights"),
                        HasSubstr(plan_table(o)[0].directory), HasSubstr("another --run-dir")));
      EXPECT_FALSE(std::filesystem::exists(plan_table(o)[1].directory));
    }
    replace_base(32);
    EXPECT_EQ(run_table(options(t)), 0);
  }
}

// A control trained on other text is measured on the table's text, and the table names both.
TEST_F(LatentReproTest, AModelTrainedOnOtherDataIsMeasuredOnTheTables) {
  std::ofstream other(directory_ / "other.txt");
  for (int i = 0; i < 400; ++i)
    other << "made-up text, to be learnt. The " << i * 31 % 97 << ". line of a\n";
  other.close();
  Json t = table();
  t["models"]["elsewhere"] = {
      {"model", {{"type", "pretrained"}, {"block_size", 16}}},
      {"data",
       {{"path", directory_ / "other.txt"}, {"prepared_directory", directory_ / "other_tokens"}}}};
  t["presets"]["tiny"]["cells"] = {
      {"coprocessor", {2}}, {"continued", Json::array()}, {"elsewhere", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  EXPECT_FALSE(runs[2].table_data);
  ASSERT_TRUE(runs[3].table_data);
  EXPECT_EQ(runs[3].table_data->options.path, std::string(directory_ / "text.txt"));
  // Measurements are kept under the words of the table's file, as those of earlier versions are.
  EXPECT_EQ(parse_json(read_file(runs[3].directory + "/latent_effect.json"))["of"]["data"],
            t["base"]["data"]);
  const auto hash_of = [](const PlannedRun& r) {
    return read_summary(r.directory)["dataset"]["hash"].get<std::string>();
  };
  ASSERT_NE(hash_of(runs[3]), hash_of(runs[2]));
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(written["provenance"]["dataset"]["hash"], hash_of(runs[2]));
  EXPECT_THAT(written["provenance"]["training_data"]["elsewhere"].get<std::string>(),
              HasSubstr(hash_of(runs[3])));
  // On the same predictions: build_latent_table() refuses anything else. They differ in the model.
  const auto losses_of = [](const PlannedRun& r) {
    return parse_json(read_file(r.directory + "/latent_effect.json"))["measured"]["own"];
  };
  EXPECT_EQ(losses_of(runs[3])["texts"][0]["base"], losses_of(runs[2])["texts"][0]["base"]);
  EXPECT_NE(losses_of(runs[3])["texts"][0]["model"], losses_of(runs[2])["texts"][0]["model"]);
  EXPECT_THAT(read_file(o.directory + "/table.md"),
              HasSubstr("training data of elsewhere: other (hash " + hash_of(runs[3])));

  ReproOptions replaced = options(t);
  replaced.overrides = {"data.path=" + (directory_ / "text.txt")};
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(replaced); }),
              HasSubstr("elsewhere is trained on data of its own"));

  // Fewer words than the base has characters: it can be trained on them.
  std::ofstream words(directory_ / "words.txt");
  for (int i = 0; i < 400; ++i) words << "A text of ten words is to be learnt here.\n";
  words.close();
  t["models"]["elsewhere"]["data"] = {{"path", directory_ / "words.txt"},
                                      {"tokenizer", "word"},
                                      {"prepared_directory", directory_ / "other_words"}};
  EXPECT_THAT(message_of<UserError>([&] { run_table(options(t)); }), HasSubstr("tokenizer"));
}

// Three texts stand side by side in the table's last batch alone: nothing in training has that
// size.
TEST_F(LatentReproTest, ASourceThatReadsAheadInTheLastBatchIsLabelled) {
  testing::reset_attacks();
  Json t = table();
  t["models"]["peeks"] = {
      {"model", {{"latents", {{"type", "test_latent_attack"}, {"kind", "three_texts"}}}}}};
  t["presets"]["tiny"]["cells"] = {{"peeks", {1}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["measure"]["windows"] = 7;
  t["measure"]["batch_size"] = 4;
  const ReproOptions o = options(t);
  EXPECT_EQ(run_table(o), int(ExitCode::check_failed));
  const auto runs = plan_table(o);
  ASSERT_EQ(runs.size(), 3u);
  const Json measured = read_stored_json(runs[1].directory + "/latent_effect.json").json();
  const Verdict verdict = Verdict::of_file(measured);
  ASSERT_TRUE(verdict.leaks());
  EXPECT_THAT(verdict.line(), AllOf(HasSubstr("the evaluation's own forward"),
                                    HasSubstr("3 texts of 16 tokens, 3 groups")));
  EXPECT_TRUE(kept_leak(runs[1].directory).leaks());
  EXPECT_FALSE(kept_leak(runs[2].directory).leaks());
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  for (const Json& row : written["rows"])
    EXPECT_EQ(row["verdict"], row["model"] == "peeks" ? "LEAKS" : "causal") << row["model"];
}

TEST_F(LatentReproTest, AMixIsMeasured) {
  std::ofstream other(directory_ / "other.txt");
  for (int i = 0; i < 400; ++i)
    other << "made-up text, to be learnt. The " << i * 31 % 97 << ". line of a\n";
  other.close();
  Json t = table();
  DataOptions first;
  first.path = directory_ / "text.txt";
  first.prepared_directory = directory_ / "tokens";
  prepare_and_open(first);
  t["base"]["data"] = {{"mix",
                        {{{"path", directory_ / "tokens"}, {"weight", 3}},
                         {{"path", directory_ / "other.txt"},
                          {"tokenizer", "pretrained"},
                          {"tokenizer_files", directory_ / "tokens"},
                          {"prepared_directory", directory_ / "other_tokens"},
                          {"weight", 1}}}}};
  t["measure"]["windows"] = 8;
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(written["finished_runs"], 2);
  for (const Json& line : written["all_positions"]) EXPECT_EQ(line["texts"], 8);
  EXPECT_THAT(written["provenance"]["dataset"]["name"].get<std::string>(), HasSubstr("+"));
}

TEST_F(LatentReproTest, OtherCoprocessorsAreRowsLikeTheFirst) {
  Json t = table();
  t["models"] = parse_json(R"({
    "lora": {"model": {"latents": {"type": "coprocessor", "initial": "lora", "rank": 2}}},
    "cache": {"model": {"latents": {"type": "coprocessor", "writes": "cache"}}},
    "several": {"model": {"latents": {"type": "several", "sources": [{"type": "coprocessor"}, {"type": "coprocessor"}]}}},
    "late": {"model": {"latents": {"type": "coprocessor"}, "delay": 2}}})");
  t["presets"]["tiny"]["cells"] = {{"lora", {2}}, {"cache", {2}}, {"several", {4}}, {"late", {2}}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["shuffled"] = {"cache"};
  const ReproOptions o = options(t);
  // Two sources share four latents.
  const Json sources = plan_table(o)[3].config.at("model").at("latents").at("sources").json();
  EXPECT_EQ(sources[0]["count"], 2);
  EXPECT_EQ(sources[1]["count"], 2);
  EXPECT_THAT(plan_table_text(o), HasSubstr("lora"));
  ASSERT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(json["rows"].size(), 5u * 6);
  for (const Json& row : json["rows"])
    EXPECT_TRUE(std::isfinite(row["measured"]["ppl_change_percent"]["mean"].get<double>()));
  t["presets"]["tiny"]["cells"]["several"] = {3};
  EXPECT_THAT(refused(t), HasSubstr("cannot be shared evenly by its 2 sources"));
}

// A plan counts a coprocessor that begins with the base's weights beside a base that has none.
TEST(LatentPlan, ASourceIsPlannedWithoutTheBasesWeights) {
  Generator unused(1);
  const auto base = ModelRegistry::instance().make(
      testing::model_component(
          R"({"type": "llama", "vocab_size": 61, "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16})"),
      Build{unused, DType::f32, Device{}, false});
  base->freeze();
  const auto plan = [&](const std::string& latents) {
    ExperimentOptions run;
    run.model = testing::model_component(
        R"({"type": "augmented", "base": "x", "block_size": 16, "groups": 4, "ahead": 4, "latents": )" +
        latents + "}");
    return plan_latent_run(dynamic_cast<const Transformer&>(*base), run);
  };
  const auto pair_of = [](const std::string& a, const std::string& b) {
    return R"({"type": "several", "sources": [)" + a + ", " + b + "]}";
  };
  const std::string copied = R"({"type": "coprocessor", "count": 2})",
                    scratch = R"({"type": "coprocessor", "count": 2, "initial": "scratch"})",
                    lora = R"({"type": "coprocessor", "count": 2, "initial": "lora", "rank": 2})";
  const LatentPlan one = plan(copied), two = plan(pair_of(copied, copied));
  EXPECT_EQ(one.trainable_parameters, plan(scratch).trainable_parameters);
  EXPECT_EQ(one.step_flops, plan(scratch).step_flops);
  EXPECT_EQ(two.trainable_parameters, 2 * one.trainable_parameters);
  EXPECT_EQ(two.step_flops, plan(pair_of(scratch, scratch)).step_flops);
  EXPECT_LT(plan(lora).trainable_parameters, one.trainable_parameters);
}

TEST(LatentPlan, LowRankUpdatesOfTheBaseAreWhatIsTrained) {
  Generator random(1);
  const auto base = ModelRegistry::instance().make(
      testing::model_component(
          R"({"type": "llama", "vocab_size": 61, "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16})"),
      Build{random, DType::f32});
  base->freeze();
  const auto plan = [&](const std::string& more) {
    ExperimentOptions run;
    run.model = testing::model_component(R"({"type": "pretrained", "path": "x", "block_size": 16)" +
                                         more + "}");
    return plan_latent_run(dynamic_cast<const Transformer&>(*base), run);
  };
  const LatentPlan whole = plan(""), low_rank = plan(R"(, "rank": 2)");
  EXPECT_EQ(whole.trainable_parameters, base->parameter_count());
  add_low_rank_updates(*base, 2, 4, Build{random, DType::f32});
  int64_t trained = 0;
  for (const auto& [name, v] : base->parameters())
    trained += v.requires_grad() ? v.tensor().numel() : 0;
  EXPECT_EQ(low_rank.trainable_parameters, trained);
  EXPECT_EQ(low_rank.state_bytes, 3.0 * 4 * double(trained));
  EXPECT_LT(low_rank.step_flops, whole.step_flops);
  EXPECT_GT(low_rank.weight_bytes, whole.weight_bytes);
}

// A frozen base counts as its files will have it.
TEST_F(LatentReproTest, ABaseThatIsNotThereIsPlannedInTheTypeOfItsFiles) {
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny.erase("pretraining");
  tiny["base_model"] = directory_ / "absent";
  tiny["base_shape"] = parse_json(R"({"type": "llama", "vocab_size": 32768, "block_size": 32,
    "n_layer": 2, "n_head": 32, "n_embd": 4096, "n_hidden": 8192})");
  tiny["cells"] = {{"pause", {2}}};
  tiny["seeds"] = {1};
  struct Gibibytes {
    double state, frozen;
  };
  const auto planned = [&](const std::string& dtype, const std::string& device) {
    tiny["base_dtype"] = dtype;
    ReproOptions o = options(t);
    o.overrides = {"device=" + device};
    const std::string text = plan_table_text(o, CostOptions{2, "", 0.4});
    std::smatch state, frozen;
    EXPECT_TRUE(std::regex_search(text, state, std::regex("\npause +2 +1 .* ([0-9.]+)\n"))) << text;
    EXPECT_TRUE(std::regex_search(text, frozen, std::regex("\npause 2 +1 +([0-9.]+) "))) << text;
    return Gibibytes{std::stod(state[1]), std::stod(frozen[1])};
  };
  const Gibibytes wide = planned("f32", "cuda");
  EXPECT_GT(wide.frozen, 2);
  EXPECT_NEAR(wide.state, wide.frozen, 0.02);
  for (const auto& [dtype, device] : {std::pair{"bf16", "cuda"}, std::pair{"bf16", "cpu"},
                                      std::pair{"f16", "cuda"}, std::pair{"f16", "cpu"}}) {
    const Gibibytes narrow = planned(dtype, device);
    EXPECT_NEAR(narrow.frozen, wide.frozen / 2, 0.02) << dtype << " on " << device;
    EXPECT_NEAR(narrow.state, narrow.frozen, 0.02) << dtype << " on " << device;
  }

  tiny.erase("base_shape");
  EXPECT_THAT(refused(t), HasSubstr("\"base_dtype\" is for \"base_shape\", which is missing"));
}

TEST_F(LatentReproTest, LearningRatesAreChosenByTrialsOnTextsThatTheTableLeavesOut) {
  Json t = table();
  t["measure"]["windows"] = 8;
  t["models"]["lora"] =
      Json::parse(R"({"model": {"type": "pretrained", "block_size": 16, "rank": 2}})");
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2, 3}}, {"lora", Json::array()}};
  t["presets"]["tiny"]["model_seeds"] = {{"lora", {2}}};
  // The first is so small that nothing is learnt, the last so large that much is unlearnt.
  t["presets"]["tiny"]["sweep"] = {
      {"steps", 6}, {"learning_rates", {1e-9, 0.003, 3.0}}, {"models", {{"lora", {3.0, 0.001}}}}};
  const ReproOptions o = options(t);
  const auto before = plan_table(o);
  EXPECT_EQ(std::count_if(before.begin(), before.end(), [](auto& r) { return r.trial; }), 5);
  EXPECT_THAT(plan_table_text(o), HasSubstr("5 trials"));
  ::testing::internal::CaptureStderr();
  const int ended = run_table(o);
  // Trials are counted as the first part of the whole table, as they are timed.
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("run 2/11 trial of coprocessor/2"), HasSubstr("run 11/11 lora")));
  ASSERT_EQ(ended, 0);
  const auto runs = plan_table(o);
  std::vector<std::string> cells;
  for (const PlannedRun& r : runs) {
    if (!r.in_table) continue;
    cells.push_back(fmt::format("{}/{}/{}", r.cell.model, r.cell.level, r.seed));
    const double rate = r.config.at("optimizer").at("learning_rate").json();
    EXPECT_EQ(rate, r.cell.model == "lora" ? 0.001 : 0.003) << cells.back();
    EXPECT_EQ(r.config.at("optimizer").at("minimum_learning_rate").json().get<double>(), rate / 10);
    EXPECT_EQ(r.config.at("train").at("steps").json(), 4);
    EXPECT_TRUE(run_finished(r.directory));
  }
  EXPECT_THAT(cells, ElementsAre("coprocessor/2/1", "coprocessor/3/1", "coprocessor/2/2",
                                 "coprocessor/3/2", "lora/0/2"));
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(json["planned_runs"], 5);
  EXPECT_EQ(json["finished_runs"], 5);
  for (const Json& line : json["all_positions"]) EXPECT_EQ(line["texts"], 6) << "of eight";
  const std::string note = json["notes"].back();
  EXPECT_THAT(note, HasSubstr("every fourth held-out text"));
  EXPECT_THAT(note, HasSubstr("coprocessor: 0.003 of 1e-09 ("));
  EXPECT_THAT(note, HasSubstr("lora: 0.001 of 0.001 ("));
  t["presets"]["tiny"]["model_seeds"] = {{"lora", {7}}};
  EXPECT_THAT(refused(t), HasSubstr("none of the preset's seeds"));
  t["presets"]["tiny"].erase("model_seeds");
  t["presets"]["tiny"]["sweep"]["models"] = {{"pause", {0.1}}};
  EXPECT_THAT(refused(t), HasSubstr("no such model"));
}

TEST_F(LatentReproTest, AFrozenBaseThatChangedIsNoticed) {
  ReproOptions o = options(table());
  o.only = {"pause"};
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  LoadedRun loaded = load_run(runs[2].directory);
  auto& augmented = dynamic_cast<AugmentedModel&>(*loaded.model);
  const Dataset data = prepare_and_open(loaded.options.data);
  const EvaluationWindows windows(data.validation, 4, 16, 4);
  const auto base = load_pretrained(runs[0].directory + "/hugging_face");
  const auto measured = [&] {
    return measure_latents(augmented, *base.model, windows, {.rule = {.points = 2, .positions = 3}},
                           false);
  };
  EXPECT_NO_THROW(measured());
  Tensor weight = augmented.base().parameters()[3].second.tensor();
  weight.mutable_data<float>()[0] += 1e-3f;
  EXPECT_THAT(message_of<DataError>(measured), HasSubstr("has changed"));
}

}  // namespace
}  // namespace reverie
