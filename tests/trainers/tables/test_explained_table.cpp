// The table of decoders: findings from made-up figures, what the files say, and one small table from
// its file.

#include "trainers/tables/explained/explained_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "support/markup.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/repro.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::TemporaryDirectory;
using Holds = ExplainedFinding::Holds;

// Ten records of ten words and two facts each; losses are nats a word.
WrittenFigures figures(const std::string& memory, double loss, int64_t exact) {
  WrittenFigures f;
  f.memory = memory;
  for (int i = 0; i < 10; ++i) f.losses.push_back(10 * loss + 0.1 * (i % 3));
  f.right = 5 * exact;
  f.exact = exact;
  f.whole = exact / 4;
  return f;
}
ExplainedRun run_of(const std::string& model, const std::string& reads, int64_t seed, double own,
                    double other = 0, bool causal = true) {
  ExplainedRun run;
  run.model = model;
  run.use = "facts";
  run.seed = seed;
  run.reads = reads;
  run.directory = "runs/" + model;
  run.summary = {{"seconds", 10.0},
                 {"commit", "0123456789abcdef"},
                 {"dataset", {{"name", "made up"}, {"note", ""}, {"hash", "abc"}}}};
  run.verdict.add({"cuts", "", causal ? 0.0 : 1.0, 1e-6, 20});
  run.measured.words.assign(10, 10);
  run.measured.pieces = 20;
  run.measured.facts = true;
  run.measured.memories.push_back(figures("own", own, own < 1 ? 16 : 4));
  if (reads == "nothing") return run;
  run.measured.memories.push_back(figures("swapped", other, 4));
  run.measured.memories.push_back(figures("wiped", other, 3));
  return run;
}
ExplainedTable table_of(const std::vector<ExplainedRun>& runs) {
  const Json report = parse_json(R"({"models": {"memory": {"title": "Memory"},
    "final_state": {"title": "Final hidden state"}, "nothing": {"title": "Nothing", "description": "the decoder alone"}}})");
  return build_explained_table(testing::read_report<TableReport>(report),
                               {"Decoders", "tiny", "c", 5}, {"facts"}, runs);
}
Holds found(double memory, double other, double final_state, double nothing) {
  const auto table = table_of({run_of("memory", "memory", 1, memory, other),
                               run_of("final_state", "final_state", 1, final_state, 2),
                               run_of("nothing", "nothing", 1, nothing)});
  EXPECT_EQ(table.findings.size(), 1u);
  return table.findings[0].holds;
}

TEST(ExplainedTable, SaysWhetherTheMemoryHoldsWhatControlsDoNot) {
  EXPECT_EQ(found(0.5, 2, 1.5, 2), Holds::more_than_final_state);
  EXPECT_EQ(found(0.5, 2, 0.4, 2), Holds::something);
  EXPECT_EQ(found(0.5, 2, 0.5, 2), Holds::something) << "as much is not more";
  EXPECT_EQ(found(2, 2, 1.5, 2), Holds::nothing) << "any text's does as well";
  EXPECT_EQ(found(1.8, 2, 1.9, 1.7), Holds::nothing) << "a decoder that reads nothing is better";
  const auto unknown = table_of({run_of("memory", "memory", 1, 0.5, 2)});
  EXPECT_EQ(unknown.findings.at(0).holds, Holds::unknown) << "no control has finished";
  EXPECT_THAT(unknown.findings[0].sentence, HasSubstr("not known yet"));
}

TEST(ExplainedTable, FilesHaveEveryControlBesideTheMemory) {
  const auto table =
      table_of({run_of("memory", "memory", 1, 0.5, 2), run_of("memory", "memory", 2, 0.7, 2),
                run_of("final_state", "final_state", 1, 1.5, 2),
                run_of("nothing", "nothing", 1, 2, 0, false)});
  std::vector<std::string> order;
  for (const ExplainedRow& row : table.rows) order.push_back(row.model + "/" + row.memory);
  EXPECT_THAT(order, ElementsAre("memory/own", "memory/swapped", "memory/wiped", "final_state/own",
                                 "final_state/swapped", "final_state/wiped", "nothing/own"));
  EXPECT_EQ(table.rows[0].exact.n, 2);
  EXPECT_NEAR(table.rows[0].loss.mean, 0.6 + 0.009, 1e-9);
  EXPECT_NEAR(table.rows[0].perplexity(), std::exp(0.609), 1e-9);
  const std::string text = explained_table_markdown(table), page = explained_report_html(table),
                    csv = explained_table_csv(table);
  for (const std::string* file : {&text, &page})
    EXPECT_THAT(*file, AllOf(HasSubstr("the memory holds something that no control does"),
                             HasSubstr("Memory, swapped"), HasSubstr("Memory, wiped"),
                             HasSubstr("LEAKS"), HasSubstr("4 of 5"), HasSubstr("exact facts")));
  EXPECT_LT(text.find("no control does"), text.find("| Memory |")) << "above the table";
  EXPECT_THAT(text, HasSubstr("| Memory | 80.0 \u00b1 0.0 % | 80.0 \u00b1 0.0 % | 1.839 | 40.0 "
                              "\u00b1 0.0 % | 2 | causal |"));
  EXPECT_THAT(text, HasSubstr("| Nothing | 20.0 %  LEAKS |"));
  EXPECT_THAT(csv, HasSubstr("memory,facts,swapped,0.2,0,"));
  const auto plots = explained_plot_files(table);
  ASSERT_EQ(plots.size(), 1u);
  EXPECT_EQ(plots[0].name, "facts.svg");
  EXPECT_EQ(testing::markup_fault(plots[0].svg, true), "");
  EXPECT_EQ(testing::markup_fault(page, false), "");
  for (const std::string* drawn : {&plots[0].svg, &page})
    EXPECT_THAT(*drawn, AllOf(HasSubstr("<title>Memory, per cent"), HasSubstr(": 20.0 %"),
                              HasSubstr("<title>Nothing LEAKS, per cent")));
  EXPECT_THAT(explained_table_markdown(table, plots), HasSubstr("](facts.svg)"));
  const Json json = explained_table_json(table);
  EXPECT_EQ(json["findings"][0]["memory_holds"], "more_than_controls");
  EXPECT_EQ(json["findings"][0]["controls"].size(), 4u);
  EXPECT_EQ(json["rows"].size(), 7u);
  EXPECT_EQ(json["rows"][6]["label"], "LEAKS");
}

TEST(ExplainedTable, RunsThatCannotStandTogetherAreRefused) {
  EXPECT_THAT(
      message_of<UserError>([] {
        table_of({run_of("memory", "memory", 1, 1, 2), run_of("memory", "memory", 1, 1, 2)});
      }),
      HasSubstr("have seed 1"));
  auto other = run_of("nothing", "nothing", 1, 2);
  other.measured.words[3] = 11;
  EXPECT_THAT(message_of<UserError>([&] {
                table_of({run_of("memory", "memory", 1, 1, 2), other});
              }),
              HasSubstr("measured on other records"));
}

// ---- from the table's file ----------------------------------------------------------------------
class ExplainedReproTest : public ::testing::Test {
 protected:
  ReproOptions options(const Json& patch = Json::object()) const {
    Json t = parse_json(R"({
      "kind": "explained", "title": "a small table of decoders",
      "report": {"models": {"memory": {"title": "Memory"}, "final_state": {"title": "Final state"},
                            "nothing": {"title": "Nothing"}}},
      "base": {"data": {"generated": {"type": "tracking", "window": 20, "windows": 3, "stories": 1,
          "distractors": 1, "people": 6, "rooms": 4, "distances": [1, 2], "documents": 40,
          "validation_documents": 8, "test_documents": 4}},
        "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}},
      "base_run": {"model": {"type": "llama", "block_size": 20, "n_layer": 1, "n_head": 2, "n_embd": 16,
          "memory": {"type": "delta_rule", "heads": 1, "carry_state": true}},
        "train": {"steps": 3, "batch_size": 4, "windows": 3}},
      "decoder_run": {"model": {"type": "explained", "block_size": 80, "decoder": {"n_layer": 1, "n_embd": 16}},
        "train": {"steps": 2, "batch_size": 4}},
      "uses": {"facts": {"data": {"examples": {"form": "facts", "tokens": 12}}},
               "steps": {"data": {"examples": {"form": "steps", "tokens": 12}}}},
      "models": {"memory": {}, "final_state": {"model": {"reads": "final_state"}},
                 "nothing": {"model": {"reads": "nothing"}}},
      "presets": {"tiny": {"seeds": [3], "measure": {"records": 6, "batch_size": 4}}}})");
    t.merge_patch(patch);
    write_file_atomically(directory_ / "table.json", json_text(t));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    return o;
  }
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(ExplainedReproTest, TheBaseComesFirstAndThenItsDecoders) {
  ReproOptions o = options();
  o.without_data = true;
  const auto runs = plan_table(o);
  ASSERT_EQ(runs.size(), 7u);
  EXPECT_FALSE(runs[0].in_table);
  EXPECT_EQ(runs[0].config.at("model").at("type").json(), "llama");
  EXPECT_EQ(runs[1].cell.model + "/" + runs[1].cell.level_name, "memory/facts");
  EXPECT_EQ(runs[6].cell.model + "/" + runs[6].cell.level_name, "nothing/steps");
  EXPECT_EQ(runs[1].config.at("model").at("base").json(), runs[0].directory);
  EXPECT_THAT(plan_table_text(o), HasSubstr("nothing                  steps"));
}

TEST_F(ExplainedReproTest, TrainsMeasuresAndWritesAndGoesOn) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory_.path());  // prepared data go into data/
  const ReproOptions o = options();
  EXPECT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(directory_ / "out/table.json"));
  EXPECT_EQ(json["finished_runs"], 6);
  // Two windows of a story hold no question, so that there is no loss over them.
  const Json base = read_summary(plan_table(o)[0].directory);
  EXPECT_FALSE(base.contains("val_loss_carried")) << base.dump(2);
  EXPECT_EQ(json["rows"].size(), 14u);
  EXPECT_EQ(json["findings"].size(), 2u);
  EXPECT_EQ(json["rows"][0]["pieces"], 12) << "two facts of each of six records";
  EXPECT_EQ(json["rows"][0]["verdict"], "causal");
  const Json measured = parse_json(read_file(plan_table(o)[1].directory + "/written.json"));
  EXPECT_THAT(json_text(measured["verdict"]["probed"]),
              AllOf(HasSubstr("own memory: the measurement's own forward"),
                    HasSubstr("swapped memory: "), HasSubstr("wiped memory: ")));
  EXPECT_EQ(run_table(o), 0) << "all of it is there";
  EXPECT_EQ(parse_json(read_file(directory_ / "out/table.json"))["rows"], json["rows"]);
  std::filesystem::current_path(before);
}

TEST_F(ExplainedReproTest, FiguresOfABaseThatWasRetrainedAreRefused) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory_.path());
  const ReproOptions o = options();
  EXPECT_EQ(run_table(o), 0);
  const std::string base = plan_table(o)[0].directory;
  const std::string hash = explained_base_hash(base);
  // Another seed's weights in its place.
  RunControl control;
  control.run_directory = directory_ / "other";
  Config config = plan_table(o)[0].config;
  config.set("seed", 99);
  testing::MonitoredTrainer(read_experiment(config, directory_.path()), control).run();
  std::filesystem::remove_all(base);
  std::filesystem::rename(directory_ / "other", base);
  ASSERT_NE(explained_base_hash(base), hash);
  for (const bool report_only : {true, false}) {
    ReproOptions again = o;
    again.report_only = report_only;
    EXPECT_THAT(message_of<DataError>([&] { run_table(again); }),
                AllOf(HasSubstr("was trained on or replaced"), HasSubstr(base)));
  }
  std::filesystem::current_path(before);
}

TEST_F(ExplainedReproTest, OtherModelsThanDecodersAreRefused) {
  ReproOptions o = options({{"models", {{"memory", {{"model", {{"type", "llama"}}}}}}}});
  o.without_data = true;
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(o); }),
              HasSubstr("$.model.type is \"llama\""));
}

TEST_F(ExplainedReproTest, ABaseWithoutMemoryIsRefusedBeforeItIsTrained) {
  ReproOptions o = options({{"base_run", {{"model", {{"memory", nullptr}}}}}});
  o.without_data = true;
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(o); }),
              AllOf(HasSubstr("memory on facts"), HasSubstr("$.base_run.model.memory")));
  // Controls alone ask for none.
  ReproOptions controls = options(
      {{"base_run", {{"model", {{"memory", nullptr}}}}}, {"models", {{"memory", nullptr}}}});
  controls.without_data = true;
  EXPECT_EQ(plan_table(controls).size(), 5u);
}

}  // namespace
}  // namespace reverie
