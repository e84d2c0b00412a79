// Generated problems: what every registered generator promises, that answers are right, and the data
// sets that are made of them.

#include "datasets/problems/problem_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/tokenizers/word_tokenizer.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

std::unique_ptr<ProblemGenerator> make_problems(Json options) {
  return ProblemRegistry::instance().make(
      resolve_component(ProblemRegistry::instance(), Config(options, "$.data.problems")));
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}
int64_t number_of(const std::string& digits) {
  std::string joined;
  for (const std::string& digit : words_of(digits)) joined += digit;
  return std::stoll(joined);
}

// A file in GSM8K's form, of sums of two numbers.
void write_sums(const std::string& file, int64_t first, int64_t count) {
  std::string text;
  for (int64_t i = first; i < first + count; ++i)
    text +=
        json_text(
            {{"question", fmt::format("Ann has {} pens and buys 1,0{} more. All?", i, 10 + i % 90)},
             {"answer", fmt::format("She has {0}+10{1}=<<{0}+10{1}={2}>>{2} pens.\n#### {2}", i,
                                    10 + i % 90, i + 1010 + i % 90)}}) +
        "\n";
  testing::write_bytes(file, text);
}

TEST(Problems, EveryGeneratorHoldsOutProblemsThatItDoesNotTrainOn) {
  const TemporaryDirectory directory;
  write_sums(directory / "sums.jsonl", 0, 3300);
  for (const std::string& name : ProblemRegistry::instance().names()) {
    SCOPED_TRACE(name);
    Json options = {{"type", name}, {"train", 3000}, {"held_out", 300}};
    if (name == "gsm8k") options["path"] = directory / "sums.jsonl";
    const auto generator = make_problems(options);
    const GeneratedProblems all = generate_problems(*generator);
    ASSERT_EQ(all.train.size(), 3000u);
    ASSERT_EQ(all.held_out.size(), 300u);
    std::set<std::string> held_out;
    for (const Example& e : all.held_out) held_out.insert(e.question);
    EXPECT_EQ(held_out.size(), 300u) << "all are different";
    for (const Example& e : all.train) EXPECT_FALSE(held_out.contains(e.question)) << e.question;
    // The vocabulary knows every word, and the best guess that does not read is no better than said.
    const auto tokenizer = WordTokenizer::from_text(" " + generator->vocabulary());
    std::map<std::string, int64_t> answers;
    for (const Example& e : all.train) {
      EXPECT_NO_THROW(tokenizer->encode(" " + e.question + " " + e.answer, SpecialTokens::as_text));
      for (const std::string& step : e.steps)
        EXPECT_NO_THROW(tokenizer->encode(" " + step, SpecialTokens::as_text));
      EXPECT_FALSE(e.steps.empty());
      ++answers[e.answer];
    }
    int64_t most = 0;
    for (const auto& [answer, count] : answers) most = std::max(most, count);
    EXPECT_LT(double(most) / 3000, generator->chance() + 0.02);
    // The same again.
    EXPECT_EQ(generate_problems(*generator).train[77].question, all.train[77].question);
  }
}

TEST(Problems, ProductsAndSumsAreRightAndTheirStepsLeadThere) {
  for (const char* operation : {"plus", "times"}) {
    const auto generator = make_problems({{"type", "arithmetic"},
                                          {"operation", operation},
                                          {"digits", 3},
                                          {"second_digits", 2},
                                          {"train", 500},
                                          {"held_out", 1}});
    const bool plus = std::string(operation) == "plus";
    for (const Example& e : generate_problems(*generator).train) {
      const size_t at = e.question.find(operation);
      const int64_t a = number_of(e.question.substr(0, at)),
                    b = number_of(e.question.substr(at + std::string(operation).size()));
      EXPECT_GE(a, 100);
      EXPECT_GE(b, 10);
      EXPECT_EQ(number_of(e.answer), plus ? a + b : a * b) << e.question;
      EXPECT_EQ(words_of(e.answer).size(), plus ? 4u : 5u) << "of fixed width";
      if (plus) {
        // The digits that were written, the last one first, and the last carry.
        std::string written;
        for (const std::string& step : e.steps) written = words_of(step)[5] + " " + written;
        EXPECT_EQ(number_of(words_of(e.steps.back())[3] + " " + written), a + b);
      } else {
        ASSERT_EQ(e.steps.size(), 2u);
        const std::string& last = e.steps.back();
        EXPECT_EQ(number_of(last.substr(last.find("sum") + 3)), a * b);
        const std::string& first = e.steps.front();
        const size_t gives = first.find("gives"), sum = first.find("sum");
        EXPECT_EQ(number_of(first.substr(gives + 5, sum - gives - 5)), a * (b % 10));
      }
    }
  }
  EXPECT_EQ(
      make_problems(
          {{"type", "arithmetic"}, {"operation", "plus"}, {"digits", 1}, {"second_digits", 1}})
          ->chance(),
      1.0 / 9);
  // Of one-digit products, 6 = 1 * 6 = 2 * 3, 8, 12, 18 and 24 come four times in 81.
  EXPECT_DOUBLE_EQ(
      make_problems({{"type", "arithmetic"}, {"digits", 1}, {"second_digits", 1}})->chance(),
      4.0 / 81);
}

// A question in sentences, read again.
struct ReadGraph {
  std::map<std::string, std::set<std::string>> after;
  size_t edges = 0;
  std::set<std::string> nodes;
  std::string root, first, second;

  explicit ReadGraph(const std::string& question) {
    std::string sentence;
    for (const std::string& word : words_of(question)) {
      sentence += word + " ";
      if (word.back() != '.' && word.back() != '?') continue;
      std::vector<std::string> words = words_of(sentence);
      sentence.clear();
      words.back().pop_back();
      if (word.back() == '?') {
        EXPECT_EQ(words.size(), 6u);
        root = words[1];
        first = words[3];
        second = words[5];
        continue;
      }
      if (words[0] == "Every") words.erase(words.begin());
      EXPECT_EQ(words.size(), 4u) << question;
      ++edges;
      after[words[0]].insert(words[3]);
      nodes.insert({words[0], words[3]});
    }
  }
  // Number of edges on the shortest path; -1: none.
  int64_t distance(const std::string& to) const {
    std::map<std::string, int64_t> known = {{root, 0}};
    std::vector<std::string> queue = {root};
    for (size_t i = 0; i < queue.size(); ++i)
      if (const auto found = after.find(queue[i]); found != after.end())
        for (const std::string& next : found->second)
          if (known.try_emplace(next, known[queue[i]] + 1).second) queue.push_back(next);
    return known.contains(to) ? known[to] : -1;
  }
};

TEST(Problems, TheAnswerIsReachedTheOtherIsNotAndMeansAreProsqas) {
  const int64_t count = 2000;
  const auto generator =
      make_problems({{"type", "reachability"}, {"train", count}, {"held_out", 1}});
  double nodes = 0, edges = 0, steps = 0, first = 0;
  for (const Example& e : generate_problems(*generator).train) {
    const ReadGraph graph(e.question);
    const auto answer = words_of(e.answer);
    ASSERT_EQ(answer.size(), 4u);
    EXPECT_EQ(answer[0], graph.root);
    const std::string right = answer[3].substr(0, answer[3].size() - 1);
    ASSERT_TRUE(right == graph.first || right == graph.second) << e.question << e.answer;
    const std::string& wrong = right == graph.first ? graph.second : graph.first;
    EXPECT_EQ(graph.distance(right), int64_t(e.steps.size()));
    EXPECT_EQ(graph.distance(wrong), -1);
    // Both are leaves, so that neither is told by what follows it.
    EXPECT_FALSE(graph.after.contains(right));
    EXPECT_FALSE(graph.after.contains(wrong));
    for (const std::string& step : e.steps)
      EXPECT_THAT(" " + e.question, HasSubstr(" " + step))
          << "every step is a fact of the question";
    nodes += double(graph.nodes.size()) / double(count);
    edges += double(graph.edges) / double(count);
    steps += double(e.steps.size()) / double(count);
    first += double(right == graph.first) / double(count);
  }
  EXPECT_NEAR(nodes, 22.8, 0.03 * 22.8);
  EXPECT_NEAR(edges, 36.0, 0.03 * 36.0);
  EXPECT_NEAR(steps, 3.8, 0.03 * 3.8);
  EXPECT_NEAR(first, 0.5, 0.04);
}

TEST(Problems, ShortWordingHasTheSameProblems) {
  const Json options = {{"type", "reachability"}, {"train", 20}, {"held_out", 5}};
  Json wording = options;
  wording["wording"] = "short";
  const auto sentences = generate_problems(*make_problems(options)),
             words = generate_problems(*make_problems(wording));
  for (size_t i = 0; i < 20; ++i) {
    const std::string answer = words_of(sentences.train[i].answer)[3];
    EXPECT_EQ(words.train[i].answer + ".", answer);
    EXPECT_EQ(words.train[i].steps.size(), sentences.train[i].steps.size());
  }
}

TEST(Problems, TooFewDifferentOnesAreRefused) {
  EXPECT_THROWS_SAYING(generate_problems(*make_problems({{"type", "arithmetic"},
                                                         {"operation", "plus"},
                                                         {"digits", 1},
                                                         {"second_digits", 1},
                                                         {"held_out", 46}})),
                       ConfigError, "45 problems of the held-out part were found, wanted 46");
  EXPECT_THROWS_SAYING(generate_problems(*make_problems({{"type", "arithmetic"},
                                                         {"operation", "plus"},
                                                         {"digits", 1},
                                                         {"second_digits", 1},
                                                         {"held_out", 45}})),
                       ConfigError, "0 problems of the training part were found");
  EXPECT_THROWS_SAYING(make_problems({{"type", "reachability"}, {"steps", {3, 4}}}), ConfigError,
                       "2 steps have 4 step_weights");
}

TEST(Problems, StagesOfADataSetShareWordsAndHeldOutProblems) {
  const TemporaryDirectory directory;
  const auto data_of = [&](int64_t stage, int64_t thoughts) {
    const Json json = {{"problems",
                        {{"type", "arithmetic"},
                         {"operation", "plus"},
                         {"digits", 2},
                         {"second_digits", 2},
                         {"train", 50},
                         {"held_out", 10}}},
                       {"examples", {{"stage", stage}, {"thoughts", thoughts}}},
                       {"tokenizer", "word"},
                       {"prepared_directory", directory / ("stage" + std::to_string(stage))}};
    DataOptions options;
    read_config(Config(json, "$.data"), options);
    return prepare_and_open(options);
  };
  const Dataset steps = data_of(0, 1), direct = data_of(9, 0);
  ASSERT_TRUE(steps.examples && direct.examples);
  EXPECT_EQ(steps.tokenizer->hash(), direct.tokenizer->hash());
  EXPECT_EQ(steps.provenance.at("source").at("hash"), direct.provenance.at("source").at("hash"));
  EXPECT_NE(steps.hash, direct.hash);
  EXPECT_EQ(steps.train.count(), 50 * steps.examples->length);
  EXPECT_EQ(direct.validation.count(), 10 * direct.examples->length);
  EXPECT_EQ(direct.examples->length, 5 + 2 + 1 + 3 + 1) << "question, thoughts, answer, end";
  for (int64_t i = 0; i < 10; ++i) {
    std::vector<int32_t> a(size_t(steps.examples->length)), b(size_t(direct.examples->length));
    steps.validation.copy(i * steps.examples->length, a);
    direct.validation.copy(i * direct.examples->length, b);
    EXPECT_TRUE(std::equal(a.begin(), a.begin() + 5, b.begin())) << "the same question";
    const auto first = answer_of(*steps.examples, a), second = answer_of(*direct.examples, b);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), second.begin(), second.end()));
  }
}

std::string hash_of(const Json& problems) {
  DataOptions data;
  read_config(Config({{"problems", problems}}, "$.data"), data);
  return describe_dataset(data).source.hash;
}

// Answers to them are kept under it.
TEST(Problems, ThatAreGeneratedKeepTheHashOfEarlierVersions) {
  Json options = {{"type", "arithmetic"}, {"operation", "plus"}, {"digits", 1},
                  {"second_digits", 1},   {"train", 40},         {"held_out", 6}};
  EXPECT_EQ(hash_of(options), "fc5101653e8e88b5d25e95f80184e0f6");
  options["seed"] = 2;
  EXPECT_NE(hash_of(options), "fc5101653e8e88b5d25e95f80184e0f6");
}

// ---- a file in GSM8K's form -----------------------------------------------------------------
class Gsm8kProblems : public ::testing::Test {
 protected:
  void write(const std::vector<std::pair<std::string, std::string>>& problems,
             const char* name = "problems.jsonl") const {
    std::string text;
    for (const auto& [question, answer] : problems)
      text += json_text({{"question", question}, {"answer", answer}}) + "\n";
    testing::write_bytes(directory_ / name, text);
  }
  Json options(Json patch = Json::object()) const {
    Json all = {{"type", "gsm8k"}, {"path", directory_ / "problems.jsonl"}, {"held_out", 1}};
    all.merge_patch(patch);
    return all;
  }
  const ProblemList& list(Json patch = Json::object()) {
    generator_ = make_problems(options(std::move(patch)));
    return *generator_->list();
  }
  TemporaryDirectory directory_;
  std::unique_ptr<ProblemGenerator> generator_;
};

TEST_F(Gsm8kProblems, StepsAreTheEquationsAndEveryDigitStandsApart) {
  write({{"Ann sold  48 clips for $1,200.\nIn her 3rd year, half at 20% off. How many?",
          "She sold 48/2 = <<48/2=24>>24.\nThat is all.\nSo 24*50.5=<<24*50.5=1212>>$1,212.00, and "
          "<<1212-12=1200>>1200.\n#### 1,200"}});
  const Example apart = list().problems.at(0).example;
  EXPECT_EQ(apart.question,
            "Ann sold 4 8 clips for $ 1 2 0 0. In her 3 rd year, half at 2 0% off. How many?");
  EXPECT_EQ(apart.steps, (std::vector<std::string>{"4 8/ 2= 2 4;", "2 4* 5 0. 5= 1 2 1 2;",
                                                   "1 2 1 2- 1 2= 1 2 0 0;"}));
  EXPECT_EQ(apart.answer, "1 2 0 0");
  const Example together = list({{"digits", "together"}}).problems.at(0).example;
  EXPECT_EQ(together.question,
            "Ann sold 48 clips for $1200. In her 3rd year, half at 20% off. How many?");
  EXPECT_EQ(together.steps.front(), "48/2=24;");
  EXPECT_EQ(together.answer, "1200");
}

TEST_F(Gsm8kProblems, WhatIsLeftOutIsCounted) {
  write({{"A right one?", "<<1+1=2>>\n#### 2"},
         {"One without an equation?", "It is two.\n#### 2"},
         {"A bracket is missing?", "<<1+1=2\n#### 2"},
         {"Letters?", "<<x+1=2>>\n#### 2"},
         {"A wrong result?", "<<1+1=3>>\n#### 3"},
         {"Another answer?", "<<1+1=2>>\n#### 4"},
         {"No number?", "<<1+1=2>>\n#### two"},
         {"A  RIGHT one?", "<<3-1=2>>\n#### 2"},
         {"Right as well?", "<<5-2=3>>\n#### 3"}});
  EXPECT_EQ(list().problems.size(), 2u);
  EXPECT_EQ(
      list().note,
      "2 of 9 problems, with equations alone for steps; left out are 1 without an equation, 2 "
      "with a malformed one, 1 with a wrong result, 2 whose last result is not the answer, 1 "
      "repeated");
  EXPECT_EQ(generator_->chance(), 0.5);
  DataOptions data;
  read_config(
      Config({{"problems", options()}, {"prepared_directory", directory_ / "tokens"}}, "$.data"),
      data);
  const Dataset opened = prepare_and_open(data);
  EXPECT_EQ(opened.name(), "gsm8k");
  EXPECT_EQ(opened.note(), list().note) << "what tables and `reverie inspect` say";
}

TEST_F(Gsm8kProblems, EveryProblemIsInOnePartOnceBySeed) {
  write_sums(directory_ / "problems.jsonl", 0, 40);
  const auto parts = [&](Json patch) {
    const GeneratedProblems all = generate_problems(*make_problems(options(std::move(patch))));
    std::pair<std::vector<std::string>, std::vector<std::string>> questions;
    for (const Example& e : all.train) questions.first.push_back(e.question);
    for (const Example& e : all.held_out) questions.second.push_back(e.question);
    return questions;
  };
  const auto first = parts({{"held_out", 10}}), other = parts({{"held_out", 10}, {"seed", 2}}),
             some = parts({{"held_out", 10}, {"train", 7}});
  EXPECT_EQ(first.first.size(), 30u);
  EXPECT_EQ(first.second.size(), 10u);
  std::set<std::string> all(first.first.begin(), first.first.end());
  all.insert(first.second.begin(), first.second.end());
  EXPECT_EQ(all.size(), 40u) << "none in both, none twice";
  EXPECT_EQ(first, parts({{"held_out", 10}}));
  EXPECT_NE(first.second, other.second);
  EXPECT_EQ(some.second, first.second);
  EXPECT_EQ(some.first, std::vector(first.first.begin(), first.first.begin() + 7));
}

TEST_F(Gsm8kProblems, ASecondFileMayBeHeldOut) {
  write_sums(directory_ / "problems.jsonl", 0, 40);
  write_sums(directory_ / "test.jsonl", 35, 20);
  const Json patch = {{"held_out_path", directory_ / "test.jsonl"}, {"held_out", 20}};
  const GeneratedProblems all = generate_problems(*make_problems(options(patch)));
  EXPECT_EQ(all.train.size(), 35u) << "five are in both files";
  EXPECT_EQ(all.held_out.size(), 20u);
  EXPECT_THAT(list(patch).note, HasSubstr("55 of 60 problems"));
  EXPECT_THAT(list(patch).note, HasSubstr("5 repeated"));
  EXPECT_THROWS_SAYING(generate_problems(*make_problems(options(
                           {{"held_out_path", directory_ / "test.jsonl"}, {"held_out", 21}}))),
                       ConfigError, "test.jsonl has 20 problems to hold out: wanted at most 20");
}

TEST_F(Gsm8kProblems, HaveOneHashWhereverTheirFilesLie) {
  write_sums(directory_ / "problems.jsonl", 0, 40);
  write_sums(directory_ / "moved.jsonl", 0, 40);
  write_sums(directory_ / "test.jsonl", 40, 10);
  write_sums(directory_ / "moved_test.jsonl", 40, 10);
  write_sums(directory_ / "all.jsonl", 0, 50);
  const auto hash = [&](const char* file, const char* held_out, Json patch = Json::object()) {
    patch["path"] = directory_ / file;
    if (held_out) patch["held_out_path"] = directory_ / held_out;
    return hash_of(options(std::move(patch)));
  };
  const std::string own = hash("problems.jsonl", nullptr),
                    two = hash("problems.jsonl", "test.jsonl");
  EXPECT_EQ(hash("moved.jsonl", nullptr), own);
  EXPECT_EQ(hash("moved.jsonl", "moved_test.jsonl"), two);
  EXPECT_NE(hash("moved.jsonl", nullptr, {{"held_out", 2}}), own);
  EXPECT_NE(hash("all.jsonl", nullptr), own);
  EXPECT_NE(hash("all.jsonl", nullptr), two) << "the same problems, otherwise divided";
}

TEST_F(Gsm8kProblems, StagesShareBytePairsLearntFromTheTrainingPart) {
  write_sums(directory_ / "problems.jsonl", 0, 60);
  const auto data_of = [&](int64_t stage) {
    const Json json = {{"problems", options({{"held_out", 20}})},
                       {"examples", {{"stage", stage}, {"thoughts", 2}, {"thought_steps", 1}}},
                       {"tokenizer", "bpe"},
                       {"train_bpe", 280},
                       {"prepared_directory", directory_ / ("stage" + std::to_string(stage))}};
    DataOptions o;
    read_config(Config(json, "$.data"), o);
    return prepare_and_open(o);
  };
  const Dataset steps = data_of(0), last = data_of(2);
  EXPECT_EQ(steps.tokenizer->hash(), last.tokenizer->hash());
  EXPECT_EQ(steps.tokenizer->name(), "bpe");
  EXPECT_EQ(steps.vocabulary_size(), 280 + ExampleLayout::kMarks);
  EXPECT_EQ(steps.train.count(), 40 * steps.examples->length);
  EXPECT_EQ(steps.validation.count(), 20 * steps.examples->length);
  // A number that nothing had: every digit has its own token.
  const auto number = steps.tokenizer->encode(" 9 7 3 5 1", SpecialTokens::as_text);
  EXPECT_LE(number.size(), 10u);
  EXPECT_EQ(steps.tokenizer->decode(number), " 9 7 3 5 1");
  std::vector<int32_t> record(static_cast<size_t>(last.examples->length));
  last.train.copy(0, record);
  EXPECT_EQ(std::count(record.begin(), record.end(), last.examples->thought()), 2);
}

TEST_F(Gsm8kProblems, ErrorsSayWhatIsMissingAndWhere) {
  {
    const testing::ScopedVariable data("REVERIE_DATA", directory_.path()),
        cache("XDG_CACHE_HOME", directory_ / "cache");
    for (const char* part :
         {"gsm8k/train.jsonl", "https://raw.githubusercontent.com/openai/grade-school-math/",
          "scripts/fetch.py gsm8k", "REVERIE_DATA"})
      EXPECT_THROWS_SAYING(make_problems({{"type", "gsm8k"}}), UserError, part);
  }
  EXPECT_THROWS_SAYING(make_problems(options()), UserError, "problems.jsonl");
  write({{"A question?", "It is two.\n#### 2"}});
  EXPECT_THROWS_SAYING(make_problems(options()), DataError,
                       "no problem whose equations lead to its answer: 0 of 1 problems");
  testing::write_bytes(directory_ / "problems.jsonl", "{\"question\": 3}\n");
  EXPECT_THROWS_SAYING(make_problems(options()), DataError, "problems.jsonl: example 1");
  write_sums(directory_ / "problems.jsonl", 0, 40);
  EXPECT_THROWS_SAYING(generate_problems(*make_problems(options({{"held_out", 40}}))), ConfigError,
                       "has 40 problems, of which some are trained on: wanted at most 39");
  EXPECT_THROWS_SAYING(make_problems(options({{"digits", "loose"}})), ConfigError, "apart");
}

TEST(Problems, Gsm8kAsItIsPublished) {
  NEED_DATA("gsm8k");
  const auto generator = make_problems({{"type", "gsm8k"}, {"held_out", 800}});
  EXPECT_EQ(generator->list()->note,
            "7001 of 7473 problems, with equations alone for steps; left out are 95 without an "
            "equation, 0 with a malformed one, 0 with a wrong result, 377 whose last result is not "
            "the answer, 0 repeated");
  EXPECT_NEAR(generator->chance(), 0.03, 0.005);
  const GeneratedProblems all = generate_problems(*generator);
  EXPECT_EQ(all.held_out.size(), 800u);
  EXPECT_EQ(all.train.size(), 6201u);
  for (const Example& e : all.train) {
    ASSERT_FALSE(e.steps.empty());
    // The last step ends in the answer.
    const std::string& last = e.steps.back();
    std::string result = last.substr(last.find('=') + 1);
    if (result.starts_with(' ')) result.erase(0, 1);  // a space stands before a digit alone
    if (result.find('.') == result.npos) {
      ASSERT_EQ(result, e.answer + ";");
    }
  }
}

TEST(Problems, OptionsOfTextsAreRefused) {
  const auto refused = [](Json patch) {
    Json json = {{"problems", {{"type", "arithmetic"}}}, {"tokenizer", "word"}};
    json.merge_patch(patch);
    DataOptions options;
    read_config(Config(json, "$.data"), options);
    describe_dataset(options);
  };
  EXPECT_THROWS_SAYING(refused({{"path", "x.txt"}}), UserError, "data.path does not apply");
  EXPECT_THROWS_SAYING(refused({{"examples", {{"form", "prosqa"}}}}), UserError,
                       "examples already");
  EXPECT_THROWS_SAYING(refused({{"generated", {{"type", "recall"}}}}), UserError, "both given");
}

}  // namespace
}  // namespace reverie
