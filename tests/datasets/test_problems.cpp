// Generated problems: what every registered generator promises, that answers are right, and the data
// sets that are made of them.

#include "datasets/problems/problem_generator.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

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

TEST(Problems, EveryGeneratorHoldsOutProblemsThatItDoesNotTrainOn) {
  for (const std::string& name : ProblemRegistry::instance().names()) {
    SCOPED_TRACE(name);
    const auto generator = make_problems({{"type", name}, {"train", 3000}, {"held_out", 300}});
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
