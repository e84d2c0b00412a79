// Records of what a text or a generated task told: what is read, and what is to be written of it.

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "support/message_of.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TemporaryDirectory;

class ToldTest : public ::testing::Test {
 protected:
  DataOptions options(const Json& json) {
    DataOptions o;
    Json all = json;
    all["prepared_directory"] = directory_ / ("tokens" + std::to_string(count_++));
    read_config(Config(all, "$.data"), o);
    return o;
  }
  static Json tracking(int64_t facts) {
    return {{"type", "tracking"},
            {"window", 48},
            {"windows", 3},
            {"facts", facts},
            {"stories", 1},
            {"people", 8},
            {"things", 8},
            {"rooms", 5},
            {"distractors", 2},
            {"documents", 9},
            {"distances", {0, 1, 2}},
            {"validation_documents", 4},
            {"test_documents", 2}};
  }
  // The words of record `i`, split at its marks: what is read, the steps, the answer.
  struct Record {
    std::string read, steps, answer;
  };
  static Record record(const Dataset& data, const TokenFile& file, int64_t i) {
    const ExampleLayout& layout = *data.examples;
    std::vector<int32_t> tokens(static_cast<size_t>(layout.length));
    file.copy(i * layout.length, tokens);
    const auto at = [&](int32_t mark) { return std::find(tokens.begin(), tokens.end(), mark); };
    const auto text = [&](auto begin, auto end) {
      return data.tokenizer->decode(std::vector<int32_t>(begin, end));
    };
    EXPECT_EQ(at(layout.end_think()), at(layout.think()) + 1);
    return {text(tokens.begin(), at(layout.think())),
            text(at(layout.end_think()) + 1, at(layout.answer())),
            text(at(layout.answer()) + 1, at(layout.end()))};
  }
  static int64_t records(const Dataset& data, const TokenFile& file) {
    return file.count() / data.examples->length;
  }
  // Sentences of a story but questions.
  static std::vector<std::string> sentences(const std::string& text) {
    std::vector<std::string> all;
    std::string sentence;
    bool asked = false;
    for (const char c : text) {
      if (c == '#' || c == '_' || c == '\n' || (c == ' ' && sentence.empty())) continue;
      asked = asked || c == '?';
      sentence += c;
      if (c != '.') continue;
      if (!asked) all.push_back(sentence);
      sentence.clear();
      asked = false;
    }
    return all;
  }

  TemporaryDirectory directory_;
  int count_ = 0;
};

TEST_F(ToldTest, ARecountOfATextIsItsLastTokens) {
  std::ofstream(directory_ / "text.txt") << "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
  const Dataset data =
      prepare_and_open(options({{"path", directory_ / "text.txt"},
                                {"validation_fraction", 0.25},
                                {"examples", {{"form", "recount"}, {"read", 8}, {"tokens", 3}}}}));
  ASSERT_TRUE(data.examples);
  EXPECT_EQ(data.examples->length, 8 + 3 + 4);
  EXPECT_EQ(data.vocabulary_size(), 26 + ExampleLayout::kMarks);
  EXPECT_EQ(records(data, data.train), (39 - 8) / 3 + 1);
  EXPECT_EQ(record(data, data.train, 0).read, "abcdefgh");
  EXPECT_EQ(record(data, data.train, 0).answer, "fgh");
  EXPECT_EQ(record(data, data.train, 1).read, "defghijk");
  EXPECT_EQ(record(data, data.train, 1).answer, "ijk");
  EXPECT_EQ(record(data, data.train, 1).steps, "");
  EXPECT_EQ(record(data, data.validation, 0).read, "nopqrstu") << "none reads across the parts";
}

TEST_F(ToldTest, WordsOfATextAreNotCutBetweenTheParts) {
  std::ofstream(directory_ / "text.txt") << "one two three four five six seven eight nine ten";
  const Dataset data =
      prepare_and_open(options({{"path", directory_ / "text.txt"},
                                {"tokenizer", "word"},
                                {"validation_fraction", 0.33},
                                {"examples", {{"form", "recount"}, {"read", 3}, {"tokens", 1}}}}));
  EXPECT_EQ(record(data, data.train, 0).read, "one two three");
  EXPECT_EQ(record(data, data.validation, 0).read, " eight nine ten");
}

TEST_F(ToldTest, FactsAreTheLastSentencesThatWereRead) {
  const Dataset data = prepare_and_open(
      options({{"generated", tracking(2)}, {"examples", {{"form", "facts"}, {"tokens", 17}}}}));
  EXPECT_EQ(records(data, data.train), 9);
  EXPECT_EQ(records(data, data.validation), 4);
  EXPECT_FALSE(data.task) << "its records are no windows of a task";
  for (int64_t i = 0; i < 4; ++i) {
    const Record r = record(data, data.validation, i);
    const auto read = sentences(r.read), written = sentences(r.answer);
    ASSERT_GE(read.size(), written.size());
    ASSERT_GE(written.size(), 2u);
    EXPECT_EQ(std::vector(read.end() - int64_t(written.size()), read.end()), written);
  }
  const Json described = data.provenance.at("examples");
  EXPECT_EQ(described.at("form"), "facts");
  EXPECT_EQ(data.tokenizer->decode(std::vector<int32_t>{described.at("fact_end").get<int32_t>()}),
            ".");
  // Facts behind the tokens that are read are not told.
  const Dataset early =
      prepare_and_open(options({{"generated", tracking(2)},
                                {"examples", {{"form", "facts"}, {"tokens", 17}, {"read", 48}}}}));
  const Record first = record(early, early.validation, 0);
  EXPECT_THAT(record(data, data.validation, 0).read, StartsWith(first.read));
  EXPECT_NE(first.answer, record(data, data.validation, 0).answer);
}

// The deciding facts are worked out here from the words themselves.
TEST_F(ToldTest, StepsDecideTheAnswer) {
  for (const int64_t facts : {1, 2, 3}) {
    const Dataset data = prepare_and_open(options(
        {{"generated", tracking(facts)}, {"examples", {{"form", "steps"}, {"tokens", 24}}}}));
    ASSERT_GT(records(data, data.train), 9) << "a record for each question";
    for (int64_t i = 0; i < records(data, data.train); ++i) {
      const Record r = record(data, data.train, i);
      const auto steps = sentences(r.steps);
      ASSERT_EQ(int64_t(steps.size()), facts) << r.steps;
      std::istringstream asked(r.read.substr(r.read.rfind('?')));
      std::vector<std::string> question;
      for (std::string word; asked >> word;) question.push_back(word);
      const auto read = sentences(r.read);
      for (const auto& s : steps)
        EXPECT_NE(std::find(read.begin(), read.end(), s), read.end()) << s;
      const std::string person = steps[0].substr(0, steps[0].find(' '));
      if (facts == 1) {
        EXPECT_EQ(question.back(), person);
      } else {
        EXPECT_THAT(steps[0], HasSubstr(person + " took the " + question[4])) << r.read;
      }
      const std::string answer = r.answer.substr(1);  // behind the space before the word
      EXPECT_EQ(steps[facts == 1 ? 0 : 1], person + " went to the " + answer + ".");
      if (facts == 3) {
        EXPECT_EQ(steps[2], person + " went to the " + question.back() + ".");
      }
    }
  }
}

TEST_F(ToldTest, ARecountOfATaskReadsSoManyTokens) {
  const Dataset data =
      prepare_and_open(options({{"generated", tracking(1)},
                                {"examples", {{"form", "recount"}, {"tokens", 5}, {"read", 50}}}}));
  EXPECT_EQ(data.examples->length, 50 + 5 + 4);
  const Record r = record(data, data.train, 3);
  EXPECT_TRUE(r.read.ends_with(r.answer)) << r.read << "\n" << r.answer;
}

TEST_F(ToldTest, WhatCannotBeToldIsRefused) {
  std::ofstream(directory_ / "text.txt") << "abcdefghijklmnopqrstuvwxyz";
  const Json text = {{"path", directory_ / "text.txt"}};
  const auto refused = [&](Json data, const char* form, int64_t read, int64_t tokens) {
    data["examples"] = {{"form", form}, {"read", read}, {"tokens", tokens}};
    return testing::message_of<UserError>([&] { prepare_and_open(options(data)); });
  };
  EXPECT_THAT(refused(text, "facts", 0, 8), HasSubstr("and there is none: wanted \"recount\""));
  EXPECT_THAT(refused(text, "recount", 4, 8), HasSubstr("only 4 tokens are read"));
  EXPECT_THAT(refused(text, "recount", 20, 8), HasSubstr("lower it, or give a longer text"));
  const Json documents = {{"path", directory_ / "text.txt"}, {"document_separator", "m"}};
  EXPECT_THAT(refused(documents, "recount", 4, 2), HasSubstr("got documents"));
  const Json task = {{"generated", tracking(1)}};
  EXPECT_THAT(refused(task, "recount", 500, 8), HasSubstr("a document of the task has 144 tokens"));
  EXPECT_THAT(refused(task, "facts", 0, 5), HasSubstr("a fact takes 6 tokens"));
  EXPECT_THAT(refused(task, "steps", 0, 6), HasSubstr("take 7 tokens"));
  const Json recall = {{"generated", {{"type", "recall"}, {"documents", 4}}}};
  EXPECT_THAT(refused(recall, "facts", 0, 8),
              HasSubstr("gives nothing to write of the form facts"));
  EXPECT_THAT(refused(recall, "steps", 0, 8),
              HasSubstr("gives nothing to write of the form steps"));
}

}  // namespace
}  // namespace reverie
