#include "core/json.h"
#include "trainers/tables/losses/loss_report.h"
#include "trainers/tables/losses/loss_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "core/error.h"
#include "support/message_of.h"
#include "trainers/tables/loss_runs.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

using namespace reverie::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Statistic, MeanAndSampleStandardDeviation) {
  const Statistic s = statistic({1, 2, 4});
  EXPECT_EQ(s.n, 3);
  EXPECT_DOUBLE_EQ(s.mean, 7.0 / 3);
  EXPECT_DOUBLE_EQ(*s.sd, std::sqrt(7.0 / 3));  // (16 + 1 + 25) / 9 / 2
  const Statistic one = statistic({1.5});
  EXPECT_EQ(one.mean, 1.5);
  EXPECT_FALSE(one.sd);
  const Statistic some = statistic({1, std::nan(""), 3, INFINITY});
  EXPECT_EQ(some.n, 2);
  EXPECT_DOUBLE_EQ(some.mean, 2);
  EXPECT_TRUE(std::isnan(statistic({}).mean));
  EXPECT_EQ(statistic({std::nan("")}).n, 0);
}

TEST(Table, RowsFollowBlockSizeAndModelOrderWhateverTheRunsOrder) {
  auto runs = make_runs({128, 64}, 2);
  std::reverse(runs.begin(), runs.end());
  const LossTable table = loss_table(table_definition(), runs, make_provenance());
  std::vector<std::string> order;
  for (const LossRow& row : table.rows)
    order.push_back(row.model + "/" + std::to_string(row.block_size));
  EXPECT_THAT(order, ElementsAre("gpt/64", "gpt_matched/64", "imm_as_published/64",
                                 "imm_causal_mean/64", "imm_slots/64", "gpt/128", "gpt_matched/128",
                                 "imm_as_published/128", "imm_causal_mean/128", "imm_slots/128"));
  EXPECT_THAT(table.block_sizes(), ElementsAre(64, 128));
}

TEST(Table, WhatWasNotRunIsAbsent) {
  const LossTable table =
      loss_table(table_definition(), {make_run("imm_slots", 256, 1, {1.5, 1.6, 1.61})});
  ASSERT_EQ(table.rows.size(), 1u);
  EXPECT_EQ(table.rows[0].model, "imm_slots");
  EXPECT_TRUE(table.rows[0].paper.is_null());
  const LossTable empty = loss_table(table_definition(), {});
  EXPECT_TRUE(empty.rows.empty());
  EXPECT_EQ(loss_table_json(empty)["rows"], Json::array());
  EXPECT_THAT(loss_table_markdown(empty), HasSubstr("No run has finished yet."));
}

TEST(Table, JsonKeepsItsContract) {
  const Json json =
      loss_table_json(loss_table(table_definition(), make_runs({64}), make_provenance()));
  ASSERT_EQ(json["rows"].size(), 5u);
  const Json& row = json["rows"][2];
  EXPECT_EQ(row["model"], "imm_as_published");
  EXPECT_EQ(row["block_size"], 64);
  EXPECT_EQ(row["paper"], Json({{"train_loss", 0.79}}));
  EXPECT_NEAR(row["measured"]["train_loss"]["mean"].get<double>(), 0.7519, 1e-12);
  EXPECT_NEAR(row["measured"]["train_loss"]["sd"].get<double>(), 0.01, 1e-12);
  EXPECT_EQ(row["measured"]["train_loss"]["n"], 3);
  EXPECT_NEAR(row["measured"]["val_loss_prefix_only"]["mean"].get<double>(), 5.1277, 1e-12);
  EXPECT_EQ(row["causal"], false);
  EXPECT_EQ(row["label"], "LEAKS");
  EXPECT_NEAR(row["max_future_logit_change"].get<double>(), 9.45,
              1e-12);  // the largest of the seeds
  EXPECT_EQ(row["parameters"], 869760);
  EXPECT_EQ(row["seeds"], Json({1, 2, 3}));
  EXPECT_EQ(json["rows"][1]["paper"], Json());
  EXPECT_FALSE(json["rows"][0].contains("label"));
  EXPECT_NEAR(json["uniform_loss"].get<double>(), 4.174387, 1e-6);
  const Json& p = json["provenance"];
  EXPECT_EQ(p["commit"], "0123456789abcdef0123456789abcdef01234567");
  EXPECT_EQ(p["machine"]["cpu"], "Some CPU");
  EXPECT_EQ(p["machine"]["cores"], 2);
  EXPECT_EQ(p["dataset"]["note"], "shakespeare-globe: not the paper's text");
  EXPECT_EQ(p["dataset"]["hash"], "0123456789abcdef");
  EXPECT_EQ(p["preset"], "laptop");
  EXPECT_EQ(p["date"], "2025-03-01T12:34:56Z");
  EXPECT_EQ(p["total_seconds"], 1500.0);
  EXPECT_THAT(p["command"].get<std::string>(), HasSubstr("--preset laptop"));
}

TEST(Table, OneSeedHasNoDeviationAndALossThatIsNotFiniteIsNull) {
  auto run = make_run("gpt", 64, 1, {1.7, 1.8, 1.8});
  run.summary["val_loss"] = nullptr;
  const LossTable table = loss_table(table_definition(), {run});
  const Json measured = loss_table_json(table)["rows"][0]["measured"];
  EXPECT_TRUE(measured["train_loss"]["sd"].is_null());
  EXPECT_EQ(measured["train_loss"]["n"], 1);
  EXPECT_TRUE(measured["val_loss"]["mean"].is_null());
  EXPECT_EQ(measured["val_loss"]["n"], 0);
  EXPECT_EQ(parse_json(json_text(loss_table_json(table))),
            loss_table_json(table));  // no NaN anywhere
}

TEST(Table, OneLeakingSeedMakesTheRowLeakAndNaNIsNotHidden) {
  auto runs = make_runs({64}, 3);
  runs[0].summary["causal"] = false;
  runs[0].summary["max_future_logit_change"] = nullptr;
  const LossTable table = loss_table(table_definition(), runs);
  EXPECT_EQ(table.rows[0].label(), "LEAKS");
  EXPECT_TRUE(std::isnan(table.rows[0].max_future_logit_change));
  EXPECT_TRUE(loss_table_json(table)["rows"][0]["max_future_logit_change"].is_null());
  EXPECT_EQ(loss_cell(table.rows[0], "max_future_logit_change").text, "not finite");
}

// The cells of a Markdown table's data rows.
std::vector<std::vector<std::string>> markdown_rows(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) continue;
    rows.emplace_back();
    std::istringstream cells(line.substr(1));
    for (std::string cell; std::getline(cells, cell, '|');) {
      const size_t begin = cell.find_first_not_of(' '), end = cell.find_last_not_of(' ');
      rows.back().push_back(begin == cell.npos ? "" : cell.substr(begin, end - begin + 1));
    }
  }
  if (rows.size() >= 2) rows.erase(rows.begin(), rows.begin() + 2);  // headings and rule
  return rows;
}

TEST(Table, MarkdownShowsTheNumbersOfTheJsonAndLabelsEveryLeakingOne) {
  const LossTable table = loss_table(table_definition(), make_runs(), make_provenance());
  const Json json = loss_table_json(table);
  const auto rows = markdown_rows(loss_table_markdown(table));
  ASSERT_EQ(rows.size(), json["rows"].size());
  ASSERT_EQ(rows.size(), 15u);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Json& row = json["rows"][i];
    ASSERT_EQ(rows[i].size(), 10u) << i;
    const bool leaks = !row["causal"].get<bool>();
    EXPECT_EQ(rows[i][0], std::to_string(row["block_size"].get<int64_t>()));
    EXPECT_EQ(rows[i][1], row["title"].get<std::string>());
    if (row["paper"].is_null())
      EXPECT_EQ(rows[i][2], "\u2013");
    else
      EXPECT_NEAR(std::stod(rows[i][2]), row["paper"]["train_loss"].get<double>(), 0.005);
    size_t at = 3;
    for (const char* loss : {"train_loss", "val_loss", "val_loss_prefix_only"}) {
      const std::string& cell = rows[i][at++];
      EXPECT_NEAR(std::stod(cell), row["measured"][loss]["mean"].get<double>(), 0.0005001) << cell;
      const size_t sign = cell.find("\u00b1");
      ASSERT_NE(sign, cell.npos);
      EXPECT_NEAR(std::stod(cell.substr(sign + 3)), row["measured"][loss]["sd"].get<double>(),
                  0.0005001)
          << cell;
    }
    EXPECT_NEAR(std::stod(rows[i][6]), row["max_future_logit_change"].get<double>(), 0.0051);
    for (at = 3; at <= 6; ++at) EXPECT_EQ(rows[i][at].ends_with(" LEAKS"), leaks) << rows[i][at];
    EXPECT_EQ(rows[i][7], leaks ? "**LEAKS**" : "causal");
    std::string parameters = rows[i][8];
    std::erase(parameters, ',');
    EXPECT_EQ(std::stoll(parameters), row["parameters"].get<int64_t>());
    EXPECT_EQ(rows[i][9], "3");
  }
}

TEST(Table, MarkdownCarriesLegendNotesAndProvenance) {
  const std::string text =
      loss_table_markdown(loss_table(table_definition(), make_runs({64}), make_provenance()));
  for (const char* part :
       {"# IMM on Shakespeare, character level\n", "not the paper's text", "ln 65 = 4.174",
        "J. I. Orlicki, arXiv 2502.21030", "* The paper does not say how wide its model is.",
        "Some CPU, 2 cores, 24 GiB", "0123456789abcdef0123456789abcdef01234567", "25:00",
        "reverie repro configs/tables/imm"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(Table, ColumnsCanBeChosen) {
  Json definition = table_definition();
  definition["columns"] = {"model", "val_loss"};
  const auto rows = markdown_rows(loss_table_markdown(loss_table(definition, make_runs({64}))));
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_THAT(rows[2], ElementsAre("IMM as published", "0.802 \u00b1 0.010 LEAKS"));
}

TEST(Table, LossesWithMemoryCarriedStandWhereARunCarriesSome) {
  std::vector<LossRun> runs = make_runs({64});
  const auto text = [&] { return loss_table_markdown(loss_table(table_definition(), runs)); };
  EXPECT_THAT(text(), Not(HasSubstr("memory")));
  for (LossRun& run : runs)
    if (run.model == "imm_slots") {
      run.summary["val_loss_carried"] = 1.75;
      run.summary["val_loss_on_carried_windows"] = 1.85;
    }
  const LossTable table = loss_table(table_definition(), runs);
  EXPECT_THAT(text(), HasSubstr("val, memory carried | val, memory reset |"));
  EXPECT_THAT(text(), HasSubstr("Memory carried: validation texts"));
  const LossRow& slots = *table.find("imm_slots", 64);
  EXPECT_EQ(loss_cell(slots, "val_loss_carried").text, "1.750 \u00b1 0.000");
  EXPECT_EQ(loss_cell(slots, "val_loss_on_carried_windows").text, "1.850 \u00b1 0.000");
  EXPECT_EQ(loss_cell(*table.find("gpt", 64), "val_loss_carried").text, "\u2013");
  const Json json = loss_table_json(table);
  for (const Json& row : json.at("rows"))
    EXPECT_EQ(row.at("measured").contains("val_loss_carried"), row.at("model") == "imm_slots");
  EXPECT_THAT(loss_report_html(table, runs), HasSubstr("val, memory carried"));
}

TEST(Table, HostileTitlesStayInTheirCells) {
  Json definition = table_definition();
  definition["models"]["gpt"]["title"] = "a|b\n| c <script> `x`";
  const auto text =
      loss_table_markdown(loss_table(definition, {make_run("gpt", 64, 1, {1, 1, 1})}));
  EXPECT_THAT(text, HasSubstr("a\\|b \\| c \\<script\\> \\`x\\`"));
  EXPECT_THAT(text, Not(HasSubstr("<script>")));
}

TEST(Table, ExplanationIsMadeOfTheNumbers) {
  const LossTable table = loss_table(table_definition(), make_runs());
  EXPECT_EQ(explain_losses(table),
            "At block size 64, IMM as published (LEAKS) reaches a training loss of 0.752 where GPT "
            "reaches 1.769, but a forward that sees only the prefix, as generation does, scores "
            "5.128 on validation text, worse than guessing uniformly.");
  EXPECT_EQ(
      detail_losses(table),
      "Changing only later tokens moves earlier logits of IMM as published (LEAKS) by up to 9.45. "
      "GPT scores 1.858 from prefixes alone. Guessing uniformly scores ln 65 = 4.174. Among the "
      "models that cannot see the future, validation loss at block size 64 is 1.867 for GPT; 1.860 "
      "for GPT matched (-0.007); 1.862 for IMM causal mean (-0.006); and 1.870 for IMM slots "
      "(+0.003).");
}

TEST(Table, ExplanationClaimsOnlyWhatHolds) {
  // A prefix-only loss between GPT's and guessing, and one better than GPT's.
  const auto leak = [](double prefix_only) {
    return explain_losses(
        loss_table(table_definition(),
                   {make_run("gpt", 64, 1, {1.75, 1.85, 1.85}),
                    make_run("imm_as_published", 64, 1, {0.8, 0.9, prefix_only, false, 2.5})}));
  };
  EXPECT_THAT(leak(3.5), HasSubstr("scores 3.500 on validation text, worse than GPT."));
  EXPECT_THAT(leak(1.5), HasSubstr("scores 1.500 on validation text."));
  EXPECT_THAT(leak(1.5), Not(HasSubstr("worse")));
  const auto no_leak =
      loss_table(table_definition(), {make_run("gpt", 64, 1, {1.75, 1.85, 1.85, true, 1e-6})});
  EXPECT_THAT(explain_losses(no_leak),
              HasSubstr("None of these models sees the future: changing later tokens moves no "
                        "earlier logit by more than 1e-06."));
  const auto only_leak = loss_table(
      table_definition(), {make_run("imm_as_published", 64, 1, {0.8, 0.9, 5, false, 2.5})});
  EXPECT_THAT(detail_losses(only_leak), HasSubstr("No model here is causal."));
}

TEST(Table, BadRunsAreNamed) {
  auto runs = make_runs({64}, 2);
  runs.push_back(runs[0]);
  EXPECT_THAT(message_of<UserError>([&] { loss_table(table_definition(), runs); }),
              HasSubstr("two runs of gpt at block size 64 have seed 1"));
  runs = make_runs({64}, 2);
  runs[5].summary["parameters"] = 7;
  EXPECT_THAT(message_of<UserError>([&] { loss_table(table_definition(), runs); }),
              HasSubstr("803840 and 7 parameters"));
  for (const char* key : {"train_loss", "val_loss", "val_loss_prefix_only", "causal",
                          "max_future_logit_change", "parameters", "seconds", "commit"}) {
    runs = make_runs({64}, 1);
    runs[0].summary.erase(key);
    EXPECT_THAT(message_of<DataError>([&] { loss_table(table_definition(), runs); }),
                HasSubstr(key));
  }
  runs = make_runs({64}, 1);
  runs[0].summary["causal"] = "yes";
  EXPECT_THROW(loss_table(table_definition(), runs), DataError);
  runs = make_runs({64}, 1);
  runs[3].summary["dataset"]["hash"] = "another";
  EXPECT_THAT(message_of<UserError>([&] { loss_table(table_definition(), runs); }),
              HasSubstr("runs/imm_causal_mean-64-1 was trained on other data"));
}

TEST(Table, ModelsThatTheDefinitionDoesNotNameFollowUnderTheirNames) {
  const LossTable table = loss_table(
      {{"title", "t"}}, {make_run("b", 64, 1, {1, 1, 1}), make_run("a", 64, 1, {1, 1, 1})});
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].title, "b");
  EXPECT_EQ(table.rows[1].title, "a");
  EXPECT_FALSE(table.uniform_loss());
}

TEST(Table, DefinitionAndSummariesFillTheProvenance) {
  Json definition = table_definition();
  definition["preset"] = "smoke";
  definition["command"] = "reverie repro x";
  definition["planned_runs"] = 6;
  auto runs = make_runs({64}, 1);
  for (auto& run : runs) run.summary["vocabulary_size"] = 66;
  runs[1].summary["commit"] = "another";
  const LossTable table = loss_table(definition, runs);
  const Json json = loss_table_json(table);
  EXPECT_EQ(json["provenance"]["preset"], "smoke");
  EXPECT_EQ(json["provenance"]["command"], "reverie repro x");
  EXPECT_EQ(json["provenance"]["dataset"]["name"], "shakespeare-globe");
  EXPECT_EQ(json["provenance"]["run_commits"],
            Json({"0123456789abcdef0123456789abcdef01234567", "another"}));
  EXPECT_EQ(json["provenance"]["commit"], build_commit());
  EXPECT_EQ(json["vocabulary_size"], 66);
  EXPECT_EQ(json["finished_runs"], 5);
  EXPECT_THAT(loss_table_markdown(table), HasSubstr("**5 of 6 planned runs have finished.**"));
  definition["planned_runs"] = 5;
  EXPECT_THAT(loss_table_markdown(loss_table(definition, runs)), Not(HasSubstr("planned runs")));
}

TEST(Table, BadDefinitionsAreConfigErrorsWithTheirPath) {
  const auto message = [](auto change) {
    Json definition = table_definition();
    change(definition);
    return message_of<ConfigError>([&] { loss_table(definition, {}); });
  };
  EXPECT_THAT(message([](Json& d) { d["colums"] = Json::array(); }),
              HasSubstr("unknown key \"colums\" at $.report; did you mean \"columns\"?"));
  EXPECT_THAT(message([](Json& d) { d["citation"] = 3; }),
              HasSubstr("$.report.citation must be a string, got 3"));
  EXPECT_THAT(message([](Json& d) { d["models"]["gpt"]["titel"] = ""; }),
              HasSubstr("\"titel\" at $.report.models.gpt; did you mean \"title\"?"));
  EXPECT_THAT(message([](Json& d) { d["models"]["gpt"] = "GPT"; }),
              HasSubstr("$.report.models.gpt must be an object"));
  EXPECT_THAT(message([](Json& d) { d["models"] = Json::array(); }),
              HasSubstr("$.report.models must be an object"));
  EXPECT_THAT(message([](Json& d) { d["paper"]["gpt"] = 1.7; }),
              HasSubstr("$.report.paper.gpt must be an object"));
  EXPECT_THAT(message([](Json& d) { d["paper"]["gpt"]["64x"] = Json::object(); }),
              HasSubstr("\"train_loss\" at $.report.paper.gpt.64x"));
  EXPECT_THAT(message([](Json& d) {
                d["paper"]["gpt"]["64x"] = {{"train_loss", 1.7}};
              }),
              HasSubstr("$.report: paper.gpt: \"64x\" is no block size"));
  EXPECT_THAT(message([](Json& d) { d["paper"]["gpt"]["64"].erase("train_loss"); }),
              HasSubstr("missing key \"train_loss\" at $.report.paper.gpt.64"));
  EXPECT_THAT(message([](Json& d) { d["columns"] = {"verdikt"}; }), HasSubstr("verdict"));
  EXPECT_THAT(message([](Json& d) { d["notes"] = {1}; }), HasSubstr("$.report.notes[0]"));
}

TEST(Table, NumbersForPeople) {
  EXPECT_EQ(format_integer(0), "0");
  EXPECT_EQ(format_integer(999), "999");
  EXPECT_EQ(format_integer(803840), "803,840");
  EXPECT_EQ(format_integer(-1234567), "-1,234,567");
  EXPECT_EQ(format_change(0), "0");
  EXPECT_EQ(format_change(9.4412), "9.44");
  EXPECT_EQ(format_change(1.2e-7), "1.2e-07");
  EXPECT_EQ(format_loss(std::nan("")), "\u2013");
}

TEST(Machine, KnowsItself) {
  const MachineInfo info = machine_info();
  EXPECT_FALSE(info.cpu.empty());
  EXPECT_GE(info.cores, 1);
  EXPECT_GT(info.memory_bytes, 1 << 20);
  EXPECT_THAT(build_commit(), ::testing::MatchesRegex("unknown|[0-9a-f]+(-dirty)?"));
  EXPECT_THAT(utc_now(), ::testing::MatchesRegex("20..-..-..T..:..:..Z"));
}

}  // namespace
}  // namespace reverie
