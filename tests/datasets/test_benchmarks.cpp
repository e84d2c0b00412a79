#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "datasets/benchmarks/items.h"
#include "datasets/benchmarks/template.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;

Json item() {
  return parse_json(R"({"question": " Who? ", "choices": {"text": ["A man", "Two", "3"],
    "label": ["x", "y", "z"]}, "key": "y", "n": 51.0, "i": -7, "yes": true, "none": null,
    "words": "one two three", "list": ["a", "b"]})");
}
std::string filled(const std::string& text) {
  return Template(text).text_of(item());
}

TEST(BenchmarkTemplate, FillsPlaces) {
  EXPECT_EQ(filled("no place"), "no place");
  EXPECT_EQ(filled(""), "");
  EXPECT_EQ(filled("Q:{{question}}|{{ question | strip }}|{{question|strip_left}}"),
            "Q: Who? |Who?|Who? ");
  EXPECT_EQ(filled("{{choices.text[1]}}{{choices.text[-1]}}"), "Two3");
  EXPECT_EQ(filled("{{n}} {{i}} {{yes}}"), "51.0 -7 true");
  EXPECT_EQ(filled("{{words | before_last(' ')}}+{{words | after_last(' ')}}"), "one two+three");
  EXPECT_EQ(filled("{{words | before(' ')}}+{{words | after(' ')}}"), "one+two three");
  EXPECT_EQ(filled("{{words | before_last('#')}}+{{words | after_last('#')}}"), "+one two three");
  EXPECT_EQ(filled(R"({{words | replace(' ', '\n') | replace('o', '\'\\')}})"),
            "'\\ne\ntw'\\\nthree");
  EXPECT_EQ(filled("{{list | join(', ')}}{{list | join('')}}"), "a, bab");
  EXPECT_EQ(filled("{{choices.text[0] | lower_first}}"), "a man");
  EXPECT_EQ(filled("{{key | index(choices.label)}}"), "1");
}

TEST(BenchmarkTemplate, MakesOneTextForEachElement) {
  const Template each("{{choices.label[*]}}: {{choices.text[*] | strip}}!");
  EXPECT_TRUE(each.makes_several());
  EXPECT_THAT(each.texts_of(item()), ElementsAre("x: A man!", "y: Two!", "z: 3!"));
  EXPECT_THAT(Template("{{key}}").texts_of(item()), ElementsAre("y"));
  EXPECT_THAT(message_of<DataError>(
                  [] { Template("{{list[*]}}{{choices.text[*]}}{{none[*]}}").texts_of(item()); }),
              HasSubstr("none[*]"));
}

TEST(BenchmarkTemplate, RefusesWhatItCannotRead) {
  const auto refusal = [](const std::string& text) {
    return message_of<ConfigError>([&] { Template made(text, "task.json: $.prompt"); });
  };
  EXPECT_THAT(refusal("a {{b"), HasSubstr("task.json: $.prompt"));
  EXPECT_THAT(refusal("{{}}"), HasSubstr("a name"));
  EXPECT_THAT(refusal("{{a | upper}}"), HasSubstr("no filter 'upper'; known: strip"));
  EXPECT_THAT(refusal("{{a[b]}}"), HasSubstr("the number of an element"));
  EXPECT_THAT(refusal("{{a | before()}}"), HasSubstr("wanted '''"));
  EXPECT_THAT(refusal("{{a | before('')}}"), HasSubstr("a text to look for"));
  EXPECT_THAT(refusal("{{a b}}"), HasSubstr("wanted '|'"));
}

TEST(BenchmarkTemplate, SaysWhatAnItemLacks) {
  const auto lack = [](const std::string& text) {
    return message_of<DataError>([&] { filled(text); });
  };
  EXPECT_THAT(lack("{{qestion}}"), HasSubstr("no field 'qestion'; there are: question, choices"));
  EXPECT_THAT(lack("{{choices.text[3]}}"), HasSubstr("element 3 of a list of 3"));
  EXPECT_THAT(lack("{{choices}}"), HasSubstr("wanted a text or a number"));
  EXPECT_THAT(lack("{{none}}"), HasSubstr("null"));
  EXPECT_THAT(lack("{{words | after('#')}}"), HasSubstr("'#' does not stand in 'one two three'"));
  EXPECT_THAT(lack("{{words | index(list)}}"), HasSubstr("is not in that list"));
}

TEST(BenchmarkAnswers, ArePickedAsFindallDoes) {
  const auto answer = [](const std::string& pattern, const std::string& pick,
                         const std::string& text) {
    AnswerOptions options;
    options.pattern = pattern;
    options.pick = pick;
    return AnswerFinder(options, "test").answer_in(text);
  };
  const std::string flexible = "(-?[$0-9.,]{2,})|(-?[0-9]+)";
  // Values of lm-eval's RegexFilter.
  EXPECT_EQ(answer(flexible, "last", "So 3 + 4 is 7 and then $1,200.50 or 8"), "8");
  EXPECT_EQ(answer(flexible, "last", "costs -$12."), "-$12.");
  EXPECT_EQ(answer(flexible, "last", "no number"), "[invalid]");
  EXPECT_EQ(
      answer("The answer is (\\-?[0-9\\.\\,]+).", "first", "The answer is 18.\nThe answer is 4!"),
      "18");
  EXPECT_EQ(answer("#### (\\-?[0-9\\.\\,]+)", "first", "x\n#### -7,000\n"), "-7,000");
  EXPECT_EQ(answer("[a-z]+", "last", "ab cd "), "cd");
  EXPECT_EQ(answer("(?s)^(.*)$", "first", "\xC3\xA9 \xFF x"), "\xC3\xA9 \xEF\xBF\xBD x");
  EXPECT_EQ(answer("x*", "first", "bxx"), "");  // an empty match comes first
  EXPECT_THAT(message_of<ConfigError>([&] { answer("(", "first", ""); }),
              HasSubstr("test: ( is no regular expression"));
}

TEST(BenchmarkAnswers, AreComparedAsTheTaskSays) {
  ComparisonOptions options;
  options.ignore = {",", "\\$", "(?s).*#### ", "\\.$"};
  options.ignore_case = true;
  const AnswerComparison gsm8k(options, "test");
  EXPECT_TRUE(gsm8k.same("$1,200.", "1200"));
  EXPECT_TRUE(gsm8k.same("18", "Steps\nof 3\n#### 18"));
  EXPECT_TRUE(gsm8k.same("Yes", "yes"));
  EXPECT_FALSE(gsm8k.same("18.0", "18"));
  EXPECT_FALSE(gsm8k.same("[invalid]", "18"));
  ComparisonOptions numbers;
  numbers.numbers = true;
  const AnswerComparison values(numbers, "test");
  EXPECT_TRUE(values.same("51", "51.0"));
  EXPECT_TRUE(values.same("-0.50", "-.5"));
  EXPECT_FALSE(values.same("51", "51.5"));
  EXPECT_FALSE(values.same("5 1", "51"));
}

class BenchmarkItemsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* before = std::getenv("REVERIE_DATA");
    before_ = before ? before : "";
    ::setenv("REVERIE_DATA", folder_.path().c_str(), 1);
  }
  void TearDown() override {
    if (before_.empty())
      ::unsetenv("REVERIE_DATA");
    else
      ::setenv("REVERIE_DATA", before_.c_str(), 1);
  }
  DefinitionFile task(const std::string& json) {
    write_file_atomically(folder_ / "task.json", json);
    return read_benchmark(folder_ / "task.json");
  }
  void data(const std::string& text, const std::string& name = "items.jsonl") {
    write_file_atomically(folder_ / name, text);
  }
  TemporaryDirectory folder_;
  std::string before_;
};

constexpr const char* kItems =
    R"({"id": "q0", "q": "One?", "c": ["a", "bb"], "g": 1, "s": "x"})"
    "\n\n"
    R"({"id": "q1", "q": "Two?", "c": ["c", "d", "e"], "g": "e", "s": "y"})"
    "\n"
    R"({"id": "q2", "q": "Three?", "c": ["f", "g"], "g": 0, "s": "x"})"
    "\n";
const std::string kChoice = R"({"name": "t", "mirrors": "own", "data": "items.jsonl",
  "prompt": "Q: {{q}}\nA:", "choices": ["{{c[*]}}"], "gold": "{{g}}")";

TEST_F(BenchmarkItemsTest, AreContextsAndContinuations) {
  data(kItems);
  const BenchmarkItems items = read_items(task(kChoice + "}"), {});
  ASSERT_EQ(items.items.size(), 3u);
  EXPECT_EQ(items.all, 3);
  EXPECT_EQ(items.data_hash, hash_file(folder_ / "items.jsonl"));
  const BenchmarkItem& second = items.items[1];
  EXPECT_EQ(second.reference, "q1");
  EXPECT_THAT(second.contexts, ElementsAre("Q: Two?\nA:"));
  EXPECT_THAT(second.continuations, ElementsAre(" c", " d", " e"));
  EXPECT_EQ(second.gold, 2);
  EXPECT_NEAR(items.chance, (0.5 + 1.0 / 3 + 0.5) / 3, 1e-15);
  const BenchmarkItems one = read_items(task(kChoice + "}"), {{}, 1, ""});
  EXPECT_EQ(one.items.size(), 1u);
  EXPECT_EQ(one.all, 3);
}

TEST_F(BenchmarkItemsTest, StandBehindSolvedExamplesButNeverTheirOwn) {
  data(kItems);
  const std::string shots = kChoice + R"(, "description": "About {{s}}.\n",
    "few_shot": {"count": 1, "match": "{{s}}", "separator": "\n--\n"}})";
  EXPECT_THAT(message_of<DataError>([&] { read_items(task(shots), {}); }),
              HasSubstr("item 1 (from 0): 1 examples were asked for, and the pool has 0 of 'y'"));
  const BenchmarkItems items = read_items(task(shots), {{}, 1, ""});
  EXPECT_EQ(items.items[0].contexts[0], "About x.\nQ: Three?\nA: f\n--\nQ: One?\nA:");
  data(R"({"q": "P?", "c": ["r", "s"], "g": 1, "s": "x"})", "pool.jsonl");
  const std::string pool = kChoice + R"(, "few_shot": {"count": 1, "pool": "pool.jsonl"}})";
  const BenchmarkItems other = read_items(task(pool), {});
  EXPECT_EQ(other.items[2].contexts[0], "Q: P?\nA: s\n\nQ: Three?\nA:");
  EXPECT_NE(other.data_hash, items.data_hash);
  EXPECT_EQ(read_items(task(pool), {0, 0, ""}).items[2].contexts[0], "Q: Three?\nA:");
  // A pool that holds the items themselves, each of them twice.
  data(std::string(kItems) + "\n" + kItems, "same.jsonl");
  const std::string same = kChoice + R"(, "few_shot": {"count": 2, "pool": "same.jsonl"}})";
  for (const BenchmarkItem& item : read_items(task(same), {}).items) {
    const std::string& context = item.contexts[0];
    const std::string question = context.substr(context.rfind("Q: "));
    EXPECT_EQ(context.find(question), context.rfind(question)) << context;
  }
}

TEST_F(BenchmarkItemsTest, TakeExamplesOfAPoolWithOtherFields) {
  data(R"({"body": "Two and three.", "sum": 5})");
  data(R"({"question": "One and one?", "answer": "1 + 1 = 2\n#### 2"})", "pool.jsonl");
  const std::string generate = R"({"name": "t", "mirrors": "own", "type": "generate",
    "data": "items.jsonl", "prompt": "Q: {{body}}\nA:", "target": "{{sum}}",
    "answers": {"number": {"pattern": "\\d"}}, "few_shot": {"count": 1, )";
  const std::string other = R"("pool": "pool.jsonl", "prompt": "Q: {{question}}\nA:")";
  EXPECT_EQ(
      read_items(task(generate + other + R"(, "target": "{{answer}}"}})"), {}).items[0].contexts[0],
      "Q: One and one?\nA: 1 + 1 = 2\n#### 2\n\nQ: Two and three.\nA:");
  // The item itself, with other fields and a longer answer, is no example.
  data(R"({"question": "Two and three.", "answer": "2 + 3 = 5\n#### 5"})", "pool.jsonl");
  EXPECT_THAT(message_of<DataError>([&] {
                read_items(task(generate + other + R"(, "target": "{{answer}}"}})"), {});
              }),
              HasSubstr("the pool has 0 besides the item"));
  // A pool that is missing names its own command.
  const std::string missing = generate + R"("pool": "none.jsonl", "fetch": "make a pool"}})";
  EXPECT_THAT(message_of<UserError>([&] { read_items(task(missing), {}); }),
              HasSubstr("run: `make a pool`"));
  const auto refused = [&](const std::string& json) {
    return message_of<ConfigError>([&] { task(json); });
  };
  EXPECT_THAT(refused(generate + other + "}}"), HasSubstr("together, or neither"));
  EXPECT_THAT(refused(generate + R"("prompt": "a", "target": "b"}})"),
              HasSubstr("wanted \"pool\""));
  EXPECT_THAT(refused(kChoice + R"(, "few_shot": {)" + other + R"(, "target": "b"}})"),
              HasSubstr("no \"prompt\" of its own"));
}

TEST_F(BenchmarkItemsTest, DrawExamplesByItem) {
  std::string many;
  for (int i = 0; i < 40; ++i)
    many += R"({"q": "q)" + std::to_string(i) + R"(", "c": ["a", "b"], "g": 0})" + "\n";
  data(many);
  const DefinitionFile drawn =
      task(kChoice + R"(, "few_shot": {"count": 3, "pick": "random", "seed": 5}})");
  const BenchmarkItems items = read_items(drawn, {}), again = read_items(drawn, {{}, 2, ""});
  EXPECT_NE(items.items[0].contexts[0].substr(0, 20), items.items[1].contexts[0].substr(0, 20));
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(items.items[i].contexts, again.items[i].contexts);  // whatever the limit
  for (const BenchmarkItem& one : items.items) {
    const std::string own = "Q: q" + std::to_string(one.number) + "\n";
    EXPECT_EQ(one.contexts[0].find(own), one.contexts[0].rfind(own));
  }
}

TEST_F(BenchmarkItemsTest, MayHaveAContextForEachChoice) {
  data(R"({"q": ["He", "She"], "rest": "ran.", "g": 1})");
  const BenchmarkItems items = read_items(task(R"({"name": "t", "mirrors": "own",
    "data": "items.jsonl", "prompt": "{{q[*]}}", "choices": ["{{rest}}"], "gold": "{{g}}"})"),
                                          {});
  EXPECT_THAT(items.items[0].contexts, ElementsAre("He", "She"));
  EXPECT_THAT(items.items[0].continuations, ElementsAre(" ran.", " ran."));
  EXPECT_EQ(items.items[0].gold, 1);
}

TEST_F(BenchmarkItemsTest, SayWhereMissingDataIsPublished) {
  const std::string message = message_of<UserError>([&] {
    read_items(task(kChoice + R"(, "source": "https://example.org/set", "split": "test",
      "fetch": "curl -o FILE https://example.org/set.jsonl"})"),
               {});
  });
  EXPECT_THAT(message, HasSubstr(folder_.path() + "/items.jsonl"));
  EXPECT_THAT(message, HasSubstr("https://example.org/set (test split)"));
  EXPECT_THAT(message, HasSubstr("items.jsonl https://example.org/set.jsonl"));
  EXPECT_THAT(message, HasSubstr("REVERIE_DATA"));
}

TEST_F(BenchmarkItemsTest, RefuseBrokenDataAndDefinitions) {
  data("{\"q\": 1}\n[2]\n");
  EXPECT_THAT(message_of<DataError>([&] { read_items(task(kChoice + "}"), {}); }),
              HasSubstr("item 1 is no JSON object"));
  data("{\"q\": 1}\n{\n");
  EXPECT_THAT(message_of<DataError>([&] { read_items(task(kChoice + "}"), {}); }),
              HasSubstr("line 2 is no JSON"));
  data(R"({"q": "x", "c": ["a", "b"], "g": 2})");
  EXPECT_THAT(message_of<DataError>([&] { read_items(task(kChoice + "}"), {}); }),
              HasSubstr("its gold is '2', which is neither a number below 2 nor one of"));
  data(R"({"q": "x", "c": ["1", "0"], "g": "0"})");
  EXPECT_THAT(message_of<DataError>([&] { read_items(task(kChoice + "}"), {}); }),
              HasSubstr("choice 1 by its text and choice 0 by its number"));
  data(
      "{\"q\": \"x\", \"c\": [\"1\", \"0\"], \"g\": 0}\n"
      "{\"q\": \"x\", \"c\": [\"0\", \"1\"], \"g\": \"1\"}\n");
  const auto sound = read_items(task(kChoice + "}"), {});
  EXPECT_EQ(sound.items[0].gold, 0);
  EXPECT_EQ(sound.items[1].gold, 1);
  EXPECT_THAT(message_of<ConfigError>([&] { task(kChoice + R"(, "shots": 3})"); }),
              HasSubstr("shots"));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { task(R"({"name": "t", "mirrors": "own", "data": "d", "prompt": "p"})"); }),
              HasSubstr("\"choices\" and \"gold\""));
  EXPECT_THAT(message_of<ConfigError>([&] { read_benchmark("arc_esy"); }), HasSubstr("arc_esy"));
}

// Every definition that is shipped is understood, and those whose data is here fill all items.
TEST(ShippedBenchmarks, AreUnderstood) {
  const auto folder =
      std::filesystem::path(testing::test_directory()).parent_path() / "configs/tasks";
  int read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const DefinitionFile task = read_benchmark(entry.path().string());
    EXPECT_EQ(task.definition.name, entry.path().stem().string());
    EXPECT_FALSE(task.definition.about.empty() || task.definition.source.empty()) << entry.path();
    const std::vector<MissingData> missing = missing_data(task);
    try {
      const BenchmarkItems items = read_items(task, {});
      EXPECT_TRUE(missing.empty()) << entry.path();
      EXPECT_GT(items.items.size(), 99u) << entry.path();
      EXPECT_EQ(int64_t(items.items.size()), items.all);
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), HasSubstr("at none of these places"));
      ASSERT_FALSE(missing.empty()) << entry.path();
      EXPECT_THAT(e.what(), HasSubstr(missing[0].where));
      EXPECT_THAT(missing[0].where, HasSubstr(missing[0].file));
      EXPECT_THAT(missing[0].where, HasSubstr(task.definition.source));
    }
    ++read;
  }
  EXPECT_GE(read, 21);
}

}  // namespace
}  // namespace reverie
