// Results that outlive a kill, and what they are worth.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/benchmarks/measures.h"
#include "trainers/benchmarks/results_file.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

const Json kKey = {{"weights", "abc"}, {"items", 3}};

std::string only_file(const std::string& folder) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".jsonl") return entry.path().string();
  return "";
}

TEST(ResultsFile, KeepsWhatWasFlushedAndDropsALineThatWasCutOff) {
  const TemporaryDirectory folder;
  Verdict leak;
  leak.add({"a probe", "row 3", 1, 0.1, 7});
  {
    ResultsFile results(folder.path(), kKey);
    results.add(2, {{"log_likelihoods", {-0.1, -1.0 / 3}}});
    results.add(leak);
    results.flush();
  }
  std::ofstream(only_file(folder.path()), std::ios::app) << R"({"item":0,"resu)";
  for (int i = 0; i < 2; ++i) {
    ResultsFile results(folder.path(), kKey);
    ASSERT_EQ(results.results().size(), size_t(1 + i));
    EXPECT_EQ(results.results().at(2).at("log_likelihoods").at(1).get<double>(), -1.0 / 3);
    EXPECT_TRUE(results.verdict().leaks());
    results.add(1, {{"text", "a\nb"}});
  }
  ResultsFile results(folder.path(), kKey);
  EXPECT_EQ(results.results().at(1).at("text"), "a\nb");
  results.remove();
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(ResultsFile, BelongsToItsKeyAndToOneProcess) {
  const TemporaryDirectory folder;
  ResultsFile results(folder.path(), kKey);
  results.add(0, {{"text", "x"}});
  results.flush();
  ResultsFile other(folder.path(), {{"weights", "abd"}, {"items", 3}});
  EXPECT_TRUE(other.results().empty());
  EXPECT_THAT(testing::message_of<UserError>([&] { ResultsFile same(folder.path(), kKey); }),
              HasSubstr("this evaluation is in use by process"));
}

TEST(ResultsFile, BeginsAnewWhereTheFileIsNone) {
  const TemporaryDirectory folder;
  { ResultsFile results(folder.path(), kKey); }
  write_file_atomically(only_file(folder.path()), "{\"key\": 3}\n{\"item\": 0, \"result\": {}}\n");
  ResultsFile results(folder.path(), kKey);
  EXPECT_TRUE(results.results().empty());
}

TEST(ResultsFile, KeepsNothingWithoutAFolder) {
  ResultsFile results("", kKey);
  results.add(0, {{"text", "x"}});
  results.flush();
  EXPECT_EQ(results.results().size(), 1u);
  results.remove();
}

BenchmarkItem choices(std::vector<std::string> texts, int64_t gold) {
  BenchmarkItem item;
  item.choices = std::move(texts);
  item.gold = gold;
  return item;
}

TEST(BenchmarkMeasures, OfChoicesAreLmEvals) {
  DefinitionFile task;
  BenchmarkItems items;
  items.items = {choices({"ab", "abcd"}, 1), choices({"\xC3\xA9\xC3\xA9", "abc"}, 0),
                 choices({"a", "b"}, 0)};
  // Per character -1 and -0.75, -1 and -0.6; per byte -1 and -0.75, -0.5 and -0.6. Then a tie.
  const std::vector<Json> results = {{{"log_likelihoods", {-2.0, -3.0}}},
                                     {{"log_likelihoods", {-2.0, -1.8}}},
                                     {{"log_likelihoods", {-1.0, -1.0}}}};
  const std::vector<Measure> measures = measures_of(task, items, results);
  ASSERT_EQ(measures.size(), 3u);
  EXPECT_EQ(measures[0].name, "acc");
  EXPECT_THAT(measures[0].values, ::testing::ElementsAre(0, 0, 1));
  EXPECT_EQ(measures[1].name, "acc_norm");
  EXPECT_THAT(measures[1].values, ::testing::ElementsAre(1, 0, 1));
  EXPECT_EQ(measures[2].name, "acc_bytes");
  EXPECT_THAT(measures[2].values, ::testing::ElementsAre(1, 1, 1));
}

TEST(BenchmarkMeasures, OfAContinuationArePerplexityAndGreediness) {
  DefinitionFile task;
  task.definition.type = "loglikelihood";
  BenchmarkItems items;
  items.items.resize(2);
  const std::vector<Json> results = {{{"log_likelihoods", {-1.0}}, {"greedy", {true}}},
                                     {{"log_likelihoods", {-3.0}}, {"greedy", {false}}}};
  const std::vector<Measure> measures = measures_of(task, items, results);
  EXPECT_EQ(measures[0].name, "perplexity");
  EXPECT_NEAR(measures[0].estimate().mean, std::exp(2.0), 1e-12);
  EXPECT_NEAR(measures[0].estimate().standard_error, std::exp(2.0) * 1.0, 1e-12);
  EXPECT_THAT(measures[1].values, ::testing::ElementsAre(1, 0));
}

}  // namespace
}  // namespace reverie
