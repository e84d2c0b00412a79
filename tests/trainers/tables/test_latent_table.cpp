// Tables of latents: rows, controls and files.

#include "core/json.h"
#include "trainers/tables/latents/latent_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/error.h"
#include "support/message_of.h"
#include "trainers/tables/definitions.h"

namespace reverie {
namespace {

using testing::message_of;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

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

}  // namespace
}  // namespace reverie
