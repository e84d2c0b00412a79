// The table of memories: rows from made-up runs, what the files say, definitions that are refused,
// and one small table from its file.

#include "trainers/tables/memories/memory_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/plots_of_file.h"
#include "trainers/tables/repro.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::TemporaryDirectory;

// ---- the table, from figures -------------------------------------------------------------------
Json summary(bool causal, const std::string& hash) {
  Json s = {{"seconds", 10.0},
            {"commit", "0123456789abcdef"},
            {"parameters", 1000},
            {"dataset", {{"name", "made up"}, {"note", ""}, {"hash", hash}}}};
  Verdict v;
  v.add({"cuts", "", causal ? 0.0 : 1.0, 1e-6, 20});
  s["verdict"] = v.json();
  return s;
}
// Distances 0, 1, 2 with 50, 100, 100 answers, of which so many are right; chance is 1/8.
MemoryRun on_task(const std::string& model, int64_t seed, std::vector<int64_t> right,
                  std::vector<int64_t> wiped = {}, bool causal = true) {
  MemoryRun run{model, "recall", seed, summary(causal, "abc"), "runs/x", {}};
  for (size_t d = 0; d < 3; ++d) {
    const int64_t of = d == 0 ? 50 : 100;
    MemoryMeasurement::Answers a{{int64_t(d), right[d], of, 0.125}, std::nullopt, std::nullopt};
    if (!wiped.empty()) {
      a.wiped = {int64_t(d), wiped[d], of, 0.125};
      a.swapped = {int64_t(d), wiped[d] + 1, of, 0.125};
    }
    run.measured.answers.push_back(a);
  }
  run.measured.flops_per_token = 2000;
  run.measured.milliseconds_per_token = 0.5;
  run.measured.state_bytes = wiped.empty() ? 0 : 4096;
  return run;
}
MemoryRun on_text(const std::string& model, int64_t seed, double bits,
                  std::optional<double> wiped) {
  MemoryRun run{model, "text", seed, summary(true, "def"), "runs/y", {}};
  run.measured.text = MemoryMeasurement::Text{bits, wiped, wiped, 1000};
  run.measured.flops_per_token = 2000;
  run.measured.milliseconds_per_token = 0.5;
  return run;
}
MemoryTable table_of(const std::vector<MemoryRun>& runs) {
  const Json report = parse_json(R"({"models": {"none": {"title": "No memory"},
    "delta": {"title": "Delta rule"}, "oracle": {"title": "Oracle"}}})");
  return build_memory_table(testing::read_report<TableReport>(report), {"memories", "tiny", "c", 7},
                            {"none", "oracle", {"recall", "copy", "text"}}, runs);
}
std::vector<MemoryRun> runs_of_all() {
  return {on_task("oracle", 1, {50, 99, 98}),
          on_task("delta", 1, {50, 80, 60}, {50, 10, 15}),
          on_task("delta", 2, {50, 90, 70}, {50, 12, 13}),
          on_task("mine", 1, {40, 30, 20}, {40, 10, 10}, false),
          on_task("none", 1, {50, 13, 12}),
          on_text("delta", 1, 2.5, 2.75)};
}

TEST(MemoryTable, RowsAreByTaskThenModelsWithSeedsTakenTogether) {
  const MemoryTable table = table_of(runs_of_all());
  std::vector<std::string> order;
  for (const MemoryRow& row : table.rows) order.push_back(row.task + "/" + row.model);
  EXPECT_THAT(order, ElementsAre("recall/none", "recall/delta", "recall/oracle", "recall/mine",
                                 "text/delta"));
  EXPECT_THAT(table.tasks, ElementsAre("recall", "text")) << "a task without runs has no column";

  const Json json = memory_table_json(table);
  const Json& delta = json["rows"][1];
  EXPECT_EQ(delta["seeds"], Json({1, 2}));
  const Json& near = delta["measured"]["right_by_distance"][1];
  EXPECT_EQ(near["distance"], 1);
  EXPECT_DOUBLE_EQ(near["carried"]["mean"], 0.85);
  EXPECT_DOUBLE_EQ(near["carried"]["sd"], std::sqrt(0.005));
  EXPECT_DOUBLE_EQ(near["wiped"]["mean"], 0.11);
  EXPECT_DOUBLE_EQ(near["swapped"]["mean"], 0.12);
  EXPECT_DOUBLE_EQ(near["chance"], 0.125);
  const Json& beyond = delta["measured"]["right_beyond_one_window"];
  EXPECT_DOUBLE_EQ(beyond["carried"]["mean"], 0.75) << "distance 0 is within the window";
  EXPECT_EQ(beyond["answers"], 200);
  EXPECT_TRUE(json["rows"][0]["measured"]["right_by_distance"][1]["wiped"].is_null());
  EXPECT_EQ(json["rows"][1]["state_bytes"], 4096);
  EXPECT_DOUBLE_EQ(json["rows"][4]["measured"]["bits_per_character"]["wiped"]["mean"], 2.75);
  EXPECT_EQ(json["finished_runs"], 6);
}

TEST(MemoryTable, FilesSayTheSameAndLabelALeak) {
  const MemoryTable table = table_of(runs_of_all());
  const std::string text = memory_table_markdown(table), page = memory_report_html(table),
                    csv = memory_table_csv(table);
  EXPECT_THAT(text, AllOf(HasSubstr("| model | recall | text |"),
                          HasSubstr("| Delta rule | 75.0 \u00b1 7.1 % | 2.500 | 1,000 | 2,000 | "
                                    "0.5000 | 0 to 4,096 | causal |")));
  EXPECT_THAT(text, HasSubstr("| mine | 25.0 %  LEAKS | \u2013 | 1,000 | 2,000 | 0.5000 | 4,096 | "
                              "**LEAKS** |"));
  EXPECT_THAT(text,
              HasSubstr("| No memory | 100.0 % | \u2013 | \u2013 | 13.0 % | \u2013 | \u2013 |"));
  EXPECT_THAT(text, HasSubstr("| mine | 80.0 %  LEAKS | 80.0 %  LEAKS | 82.0 %  LEAKS |"));
  EXPECT_THAT(text, HasSubstr("**6 of 7 planned runs have finished.**"));
  EXPECT_THAT(csv, AllOf(HasSubstr("delta,recall,1,carried,share right,0.85,0.0707107,2,0.125,"),
                         HasSubstr("mine,recall,2,carried,share right,0.2,,1,0.125,LEAKS"),
                         HasSubstr("delta,text,,wiped,bits per character,2.75,,1,,")));
  EXPECT_THAT(csv, Not(HasSubstr("none,recall,1,wiped")));
  EXPECT_THAT(page,
              AllOf(HasSubstr("75.0 \u00b1 7.1 %"), HasSubstr("<span class=\"leaks\">LEAKS")));
  EXPECT_EQ(memory_table_json(table)["rows"][3]["label"], "LEAKS");
}

TEST(MemoryTable, ProvenanceIsThatOfEachTask) {
  const MemoryTable table = table_of(runs_of_all());
  const Json provenance = memory_table_json(table)["provenance"];
  EXPECT_FALSE(provenance.contains("dataset"));
  EXPECT_EQ(provenance["datasets"]["recall"]["hash"], "abc");
  EXPECT_EQ(provenance["datasets"]["text"]["hash"], "def");
  EXPECT_THAT(memory_table_markdown(table), HasSubstr("* data of recall: made up (hash abc)"));
  auto runs = runs_of_all();
  runs[1].summary["dataset"]["hash"] = "other";
  EXPECT_THAT(message_of<UserError>([&] { table_of(runs); }), HasSubstr("recall"));
  EXPECT_THAT(message_of<UserError>([] {
                table_of({on_task("none", 1, {0, 0, 0}), on_task("none", 1, {0, 0, 0})});
              }),
              HasSubstr("seed 1"));
}

// The page never takes for granted that a task measures memory.
TEST(MemoryTable, SaysWhetherItsTasksMeasureMemory) {
  const auto sentence_of = [](const std::vector<MemoryRun>& runs) {
    const auto all = sanity_sentences(table_of(runs));
    EXPECT_EQ(all.size(), 1u);
    return all.front();
  };
  EXPECT_THAT(
      sentence_of(runs_of_all()),
      AllOf(HasSubstr("98.5 % rightly (95 % or more wanted: holds)"),
            HasSubstr("No memory 12.5 % ["), HasSubstr("wanted: holds)."), Not(HasSubstr("NOT"))));
  // An oracle that has not learnt the task, and a model without memory that is far above chance.
  EXPECT_THAT(sentence_of({on_task("oracle", 1, {50, 90, 90}), on_task("none", 1, {50, 13, 12})}),
              AllOf(HasSubstr("90.0 % rightly (95 % or more wanted: does NOT hold)"),
                    HasSubstr("does not learn the task")));
  const auto above =
      sentence_of({on_task("oracle", 1, {50, 99, 99}), on_task("none", 1, {50, 25, 25})});
  EXPECT_THAT(above, AllOf(HasSubstr("25.0 % ["), HasSubstr("wanted: does NOT hold)"),
                           HasSubstr("looked at")));
  EXPECT_THAT(sentence_of({on_task("none", 1, {50, 13, 12})}), HasSubstr("not known yet"));
  const Json json = memory_table_json(table_of(runs_of_all()));
  EXPECT_EQ(json["sanity"][0]["oracle_holds"], true);
  EXPECT_EQ(json["sanity"][0]["baseline_holds"], true);
}

TEST(MemoryTable, PlotsHaveAPanelForEachModelAndChance) {
  auto runs = runs_of_all();
  const auto files = memory_plot_files(table_of(runs));
  ASSERT_EQ(files.size(), 1u) << "a text has no distances";
  EXPECT_EQ(files[0].name, "recall.svg");
  // The caption's lines may break at any word.
  for (const char* wanted : {"Delta rule", "No memory", "mine", "dashed:", "dotted:", "12.5"})
    EXPECT_THAT(files[0].svg, HasSubstr(wanted));
  EXPECT_THAT(files[0].svg, HasSubstr("width=\"448\"")) << "two panels of 200: for narrow pages";
}

TEST(MemoryTable, PlotsComeBackFromItsFile) {
  const MemoryTable table = table_of(runs_of_all());
  TemporaryDirectory directory;
  const std::string file = directory / "table.json";
  write_file_atomically(file, json_text(memory_table_json(table)));
  const auto drawn = plots_of_file(file), wanted = memory_plot_files(table);
  ASSERT_EQ(drawn.size(), 1u);
  EXPECT_EQ(drawn[0].name, wanted[0].name);
  EXPECT_EQ(drawn[0].caption, wanted[0].caption);
  EXPECT_EQ(drawn[0].svg, wanted[0].svg);
  // A table of texts alone has no distances.
  write_file_atomically(file,
                        json_text(memory_table_json(table_of({on_text("delta", 1, 2.5, 2.75)}))));
  EXPECT_THAT(message_of<UserError>([&] { plots_of_file(file); }), HasSubstr("nothing to plot"));
}

TEST(MemoryTable, PlotsHaveTicksAtWholeDistances) {
  const std::string svg = memory_plot_files(table_of(runs_of_all()))[0].svg;
  for (const char* tick : {">0<", ">1<", ">2<"}) EXPECT_THAT(svg, HasSubstr(tick));
  for (const char* tick : {">0.5<", ">1.0<", ">1.5<"}) EXPECT_THAT(svg, Not(HasSubstr(tick)));
}

TEST(MemoryTable, MeasurementsComeBackFromTheirFile) {
  const MemoryMeasurement m = on_task("delta", 1, {50, 80, 60}, {50, 10, 15}).measured;
  EXPECT_EQ(MemoryMeasurement::from_json(m.json()).json(), m.json());
  const MemoryMeasurement text = on_text("none", 1, 2.5, std::nullopt).measured;
  EXPECT_EQ(MemoryMeasurement::from_json(text.json()).json(), text.json());
  EXPECT_THROW(MemoryMeasurement::from_json(Json::object()), DataError);
}

// ---- from the table's file ---------------------------------------------------------------------
class MemoryReproTest : public ::testing::Test {
 protected:
  MemoryReproTest() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 60; ++i) text << "line " << i % 7 << " of a text that is made up.\n";
  }
  ReproOptions options(const Json& patch = Json::object()) const {
    Json t = parse_json(R"({
      "kind": "memory", "title": "a small table of memories",
      "report": {"models": {"none": {"title": "No memory"}, "delta": {"title": "Delta rule"},
                            "oracle": {"title": "Oracle"}}},
      "base": {"model": {"type": "llama", "n_layer": 1, "n_head": 2, "n_embd": 16},
        "train": {"steps": 4, "batch_size": 4, "windows": 3},
        "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}},
      "baseline": "none", "oracle": "oracle",
      "tasks": {
        "recall": {"data": {"generated": {"type": "recall", "window": 16, "windows": 3, "pairs": 2, "questions": 3,
            "keys": 8, "values": 4, "distances": [1, 2], "documents": 40, "validation_documents": 4, "test_documents": 20}},
          "model": {"block_size": 16}},
        "text": {"model": {"block_size": 16}}},
      "models": {"none": {}, "delta": {"model": {"memory": {"type": "delta_rule", "heads": 1, "carry_state": true}}},
        "oracle": {}},
      "presets": {"tiny": {"seeds": [3]}}})");
    t["tasks"]["text"]["data"] = {{"path", directory_ / "text.txt"},
                                  {"prepared_directory", directory_ / "text"}};
    t["tasks"]["recall"]["data"]["prepared_directory"] = directory_ / "recall";
    t.merge_patch(patch);
    write_file_atomically(directory_ / "table.json", json_text(t));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    return o;
  }
  std::string refused(const char* patch) const {
    return message_of<ConfigError>([&] {
      ReproOptions o = options(parse_json(patch));
      o.without_data = true;
      plan_table(o);
    });
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(MemoryReproTest, CellsAreModelsOnTasksAndTheOracleSeesAWholeDocument) {
  ReproOptions o = options();
  o.without_data = true;
  const auto runs = plan_table(o);
  std::vector<std::string> order;
  for (const PlannedRun& r : runs) order.push_back(r.cell.model + "/" + r.cell.level_name);
  EXPECT_THAT(order, ElementsAre("none/recall", "delta/recall", "oracle/recall", "none/text",
                                 "delta/text", "oracle/text"));
  EXPECT_EQ(runs[1].config.at("model").at("block_size").json(), 16);
  EXPECT_EQ(runs[2].config.at("model").at("block_size").json(), 48);
  EXPECT_EQ(runs[2].config.at("train").at("windows").json(), 1);
  EXPECT_THAT(runs[1].directory, HasSubstr("/runs/delta-recall-seed3-"));
}

// One flag adds a row: no preset has to name it.
TEST_F(MemoryReproTest, AModelOfOnesOwnIsOneMoreRow) {
  ReproOptions o = options();
  o.without_data = true;
  o.table_overrides = {
      R"(models.mine={"model": {"memory": {"type": "recurrent_tokens", "count": 2, "carry_state": true}}})"};
  const auto runs = plan_table(o);
  EXPECT_EQ(runs.size(), 8u);
  EXPECT_EQ(runs[3].cell.model, "mine");
}

TEST_F(MemoryReproTest, RefusesBeforeAnyRunWhatCannotBeMeasured) {
  EXPECT_THAT(refused(R"({"tasks": {"recall": {"data": {"generated": {"distances": [1, 3]}}}}})"),
              HasSubstr("distance 3 needs a document of 4 windows"));
  EXPECT_THAT(refused(R"({"tasks": {"recall": {"data": {"generated": {"distances": [0]}}}}})"),
              AllOf(HasSubstr("none on recall"), HasSubstr("no distance of 1 window")));
  EXPECT_THAT(refused(R"({"tasks": {"recall": {"model": {"block_size": 48}}}})"),
              AllOf(HasSubstr("block_size is 48, wanted 16"), HasSubstr("one window")));
  EXPECT_THAT(refused(R"({"tasks": {"recall": {"train": {"windows": 1}}}})"),
              AllOf(HasSubstr("oracle on recall"), HasSubstr("block_size is 16, wanted 48")));
  EXPECT_THAT(refused(R"({"base": {"model": {"vocab_size": 10}}})"),
              AllOf(HasSubstr("has 16 words"), HasSubstr("vocab_size is 10")));
  EXPECT_THAT(refused(R"({"models": {"delta": {"model": {"memory": {"carry_state": false}}}}})"),
              AllOf(HasSubstr("delta on recall"), HasSubstr("nothing to wipe"),
                    HasSubstr("\"carry_state\": true")));
  EXPECT_THAT(
      refused(R"({"models": {"none": {"model": {"memory": {"type": "delta_rule", "heads": 1}}}}})"),
      HasSubstr("baseline and oracle have none"));
  EXPECT_THAT(refused(R"({"tasks": {"text": {"data": {"tokenizer": "word"}}}})"),
              AllOf(HasSubstr("none on text"), HasSubstr("wanted \"char\"")));
  EXPECT_THAT(refused(R"({"baseline": "nobody"})"), HasSubstr("\"nobody\" is none of the models"));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"tasks": ["recal"]}}})"), HasSubstr("recall"));
  EXPECT_THAT(refused(R"({"presets": {"tiny": {"measure": {"batch_size": 1}}}})"),
              HasSubstr("$.presets.tiny.measure.batch_size"));
}

// A module that cannot carry (it needs whole chunks) stands in the table with its label.
TEST_F(MemoryReproTest, TakesAMemoryThatCannotBeCarried) {
  ReproOptions o = options(parse_json(
      R"({"models": {"delta": {"allow_future_leak": true, "model": {"memory": null}},
          "published": {"allow_future_leak": true,
            "model": {"memory": {"type": "gated_slots", "mode": "as_published", "num_slots": 8}}}}})"));
  o.without_data = true;
  EXPECT_EQ(plan_table(o).size(), 8u);
}

TEST_F(MemoryReproTest, TrainsMeasuresWritesAndReuses) {
  const ReproOptions o = options();
  EXPECT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  ASSERT_EQ(json["rows"].size(), 6u);
  EXPECT_EQ(json["finished_runs"], 6);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["verdict"], "causal") << row;
    EXPECT_GT(row["milliseconds_per_token"]["mean"].get<double>(), 0);
    const bool carries = row["model"] == "delta";
    EXPECT_EQ(row["state_bytes"].get<int64_t>() > 0, carries) << row;
    const Json& figures = row["task"] == "text" ? row["measured"]["bits_per_character"]
                                                : row["measured"]["right_beyond_one_window"];
    EXPECT_EQ(figures["wiped"].is_null(), !carries) << row;
    EXPECT_EQ(figures["swapped"].is_null(), !carries) << row;
    if (row["task"] == "text")
      EXPECT_GT(figures["carried"]["mean"].get<double>(), 0) << row;
    else
      EXPECT_GT(figures["answers"].get<int64_t>(), 0) << row;
  }
  EXPECT_GE(json["rows"][1]["state_bytes"], 16 * 16 * 4) << "the matrix of its one layer and head";
  for (const char* file : {"/table.md", "/table.csv", "/report.html", "/recall.svg"})
    EXPECT_TRUE(std::filesystem::exists(o.directory + file)) << file;

  const auto runs = plan_table(o);
  const std::string file = runs[1].directory + "/memory_on_task.json";
  const auto written = std::filesystem::last_write_time(file);
  EXPECT_EQ(run_table(o), 0);
  EXPECT_EQ(std::filesystem::last_write_time(file), written);
  // Figures of weights that are no more are measured anew.
  const Json measured = parse_json(read_file(file));
  Json stale = measured;
  stale["checkpoint_weights"] = "of other weights";
  stale["state_bytes"] = -1;
  write_file_atomically(file, json_text(stale));
  EXPECT_EQ(run_table(o), 0);
  const Json anew = parse_json(read_file(file));
  EXPECT_EQ(anew["state_bytes"], measured["state_bytes"]);
  EXPECT_EQ(anew["checkpoint_weights"], measured["checkpoint_weights"]);
}

}  // namespace
}  // namespace reverie
