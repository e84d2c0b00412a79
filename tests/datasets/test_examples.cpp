// Examples of question, steps and answer: their forms, their records by stage, their data sets.

#include "core/json.h"
#include "datasets/examples.h"

#include <nlohmann/json.hpp>

#include "data_support.h"
#include "datasets/dataset.h"
#include "datasets/sampler.h"
#include "datasets/tokenizers/word_tokenizer.h"

namespace reverie {
namespace {

using testing::data_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr std::string_view kProsqa = R"([
  {"question": "Q one?", "steps": ["a b.", "b c.", "c d."], "answer": "A one.", "edges": [[0, 2]]},
  {"question": "Q two?", "steps": ["a."], "answer": "A two."}])";
const std::string kGsm8k =
    R"({"question": "How many?", "answer": "Half is 48/2 = <<48/2=24>>24 clips.\nSo there are )"
    R"(24+48=<<24+48=72>>72, and 1 = <<1=1>>1.\nThat is all.\n#### 72"})"
    "\n"
    R"({"question": "And now?", "answer": "#### 5"})"
    "\n";

TEST(Examples, AreReadInBothForms) {
  const auto prosqa = read_examples("prosqa", kProsqa);
  ASSERT_EQ(prosqa.size(), 2u);
  EXPECT_EQ(prosqa[0].question, "Q one?");
  EXPECT_THAT(prosqa[0].steps, ElementsAre("a b.", "b c.", "c d."));
  EXPECT_EQ(prosqa[1].answer, "A two.");
  const auto gsm8k = read_examples("gsm8k", kGsm8k);
  ASSERT_EQ(gsm8k.size(), 2u);
  EXPECT_EQ(gsm8k[0].question, "How many?");
  EXPECT_THAT(gsm8k[0].steps, ElementsAre("48/2=24", "24+48=72 1=1", "That is all."));
  EXPECT_EQ(gsm8k[0].answer, "72");
  EXPECT_TRUE(gsm8k[1].steps.empty());
}

// As a text written on Windows has them, and white space at its end.
TEST(Examples, LineEndsMayBeThoseOfWindows) {
  std::string text;
  for (const char c : kGsm8k) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  const auto gsm8k = read_examples("gsm8k", text + "\r\n \t\r\n");
  ASSERT_EQ(gsm8k.size(), 2u);
  EXPECT_EQ(gsm8k[0].answer, "72");
  const auto inside =
      read_examples("gsm8k", R"({"question": "q", "answer": "One step.\r\n#### 7\r\n"})");
  EXPECT_THAT(inside[0].steps, ElementsAre("One step."));
  EXPECT_EQ(inside[0].answer, "7");
}

TEST(Examples, OtherTextIsRefusedWithItsPlace) {
  EXPECT_THROWS_SAYING(read_examples("prosqa", R"([{"question": "q", "answer": "a"}])"), DataError,
                       "example 1");
  EXPECT_THROWS_SAYING(read_examples("prosqa", "[]"), DataError, "no example");
  EXPECT_THROWS_SAYING(read_examples("gsm8k", kGsm8k + "{\"question\": 3}"), DataError,
                       "example 3");
  EXPECT_THROWS_SAYING(
      read_examples("gsm8k", R"({"question": "q", "answer": "no mark of an answer"})"), DataError,
      "no answer");
}

// The records as text, marks by name.
std::vector<std::string> records(int64_t stage, int64_t thoughts) {
  const auto examples = read_examples("prosqa", kProsqa);
  const auto tokenizer = WordTokenizer::from_text(text_of_examples(examples));
  ExampleOptions options;
  options.stage = stage;
  options.thoughts = thoughts;
  ExampleLayout layout;
  std::vector<std::string> texts;
  for (const auto& record : example_records(examples, options, *tokenizer, layout)) {
    EXPECT_EQ(int64_t(record.size()), layout.length);
    std::string text;
    for (const int32_t id : record)
      text += id < layout.first_mark ? tokenizer->decode({&id, 1})
                                     : std::string(1, "():$*"[id - layout.first_mark]);
    texts.push_back(text);
  }
  return texts;
}
TEST(Examples, EveryStageTakesAStepAwayAndPutsThoughtsInItsPlace) {
  EXPECT_THAT(records(0, 2),
              ElementsAre(" Q one?() a b. b c. c d.: A one.$", " Q two?() a.: A two.$$$$$$$$"));
  EXPECT_THAT(records(1, 2),
              ElementsAre(" Q one?(**) b c. c d.: A one.$", " Q two?(**): A two.$$$$$$$"));
  EXPECT_THAT(records(2, 1), ElementsAre(" Q one?(**) c d.: A one.$", " Q two?(*): A two.$$$$$"));
  EXPECT_THAT(records(9, 0), ElementsAre(" Q one?(): A one.$", " Q two?(): A two.$"));
}

TEST(Examples, TargetsAreStepsAnswerAndTheFirstEnd) {
  const ExampleLayout layout{10, 100};
  //                                   question  think thought   end_think step   answer A  end
  const std::vector<int32_t> record{1,
                                    2,
                                    layout.think(),
                                    layout.thought(),
                                    layout.end_think(),
                                    3,
                                    layout.answer(),
                                    4,
                                    layout.end(),
                                    layout.end()};
  std::vector<int32_t> targets(record.begin() + 1, record.end());
  EXPECT_EQ(keep_example_targets(layout, {record.data(), 9}, targets), 4);
  EXPECT_THAT(targets, ElementsAre(-1, -1, -1, -1, 3, layout.answer(), 4, layout.end(), -1));
  const auto answer = answer_of(layout, record), prompt = prompt_of(layout, record);
  EXPECT_THAT(std::vector<int32_t>(answer.begin(), answer.end()), ElementsAre(4));
  EXPECT_EQ(prompt.size(), 5u);
  EXPECT_TRUE(answer_of(layout, prompt).empty());
  // Where nothing follows the answer, and where there are two marks.
  const std::vector<int32_t> written{layout.answer(), 7, layout.answer(), 8, 9};
  const auto last = answer_of(layout, written);
  EXPECT_THAT(std::vector<int32_t>(last.begin(), last.end()), ElementsAre(8, 9));
}

class ExampleDataset : public ::testing::Test {
 protected:
  DataOptions options(int64_t stage) const {
    DataOptions o;
    o.path = directory_ / "examples.json";
    o.prepared_directory = directory_ / ("tokens" + std::to_string(stage));
    o.tokenizer = "word";
    o.examples.form = "prosqa";
    o.examples.stage = stage;
    o.validation_fraction = 0.25;
    return o;
  }
  void SetUp() override {
    Json all = Json::array();
    for (int i = 0; i < 8; ++i)
      all.push_back({{"question", "is n" + std::to_string(i) + " it?"},
                     {"steps", {"one is.", "two is."}},
                     {"answer", "n" + std::to_string(i)}});
    testing::write_bytes(directory_ / "examples.json", json_text(all));
  }
  TemporaryDirectory directory_;
};

TEST_F(ExampleDataset, IsPreparedOnceForEachStage) {
  const Dataset whole = prepare_and_open(options(0)), first = prepare_and_open(options(1));
  ASSERT_TRUE(whole.examples && first.examples);
  EXPECT_EQ(whole.train.count(), 6 * whole.examples->length);
  EXPECT_EQ(whole.validation.count(), 2 * whole.examples->length);
  EXPECT_EQ(whole.vocabulary_size(), whole.tokenizer->vocabulary_size() + ExampleLayout::kMarks);
  EXPECT_EQ(first.examples->thought(), first.vocabulary_size() - 1);
  EXPECT_EQ(whole.tokenizer->hash(), first.tokenizer->hash()) << "stages must share their ids";
  EXPECT_NE(whole.hash, first.hash);
  EXPECT_EQ(whole.examples->length - first.examples->length, 2);  // " one is." for a thought
  DataOptions changed = options(0);
  changed.examples.thoughts = 3;
  EXPECT_THROWS_SAYING(prepare_and_open(changed), UserError, "examples.thoughts: 1 -> 3");
  EXPECT_EQ(prepare_and_open(options(0)).hash, whole.hash);
}

TEST_F(ExampleDataset, SamplersGiveWholeExamples) {
  const Dataset data = prepare_and_open(options(1));
  const ExampleLayout& layout = *data.examples;
  RandomExampleSampler sampler(data.train, layout, 4, 9);
  std::vector<bool> seen(6, false);
  for (int i = 0; i < 20; ++i) {
    const Batch batch = sampler.next();
    EXPECT_EQ(batch.tokens.size(1), layout.length - 1);
    int64_t targets = 0;
    for (const double t : batch.targets.to_vector()) targets += t >= 0;
    EXPECT_EQ(batch.target_count, targets);
    EXPECT_EQ(targets, 4 * 6);  // " two" " is" "." answer " n." end
    for (int64_t row = 0; row < 4; ++row) {
      const int64_t start = sampler.window_start(i, row);
      EXPECT_EQ(start % layout.length, 0);
      seen.at(size_t(start / layout.length)) = true;
    }
  }
  EXPECT_THAT(seen, ::testing::Each(true));
  const auto windows = EvaluationWindows::of_examples(data.validation, layout, 8, 0);
  EXPECT_EQ(windows.window_count(), 2);
  EXPECT_EQ(windows.batch(0).target_count, 2 * 6);
}

TEST_F(ExampleDataset, NeedsExamplesToHoldOut) {
  DataOptions o = options(0);
  o.validation_fraction = 0;
  EXPECT_THROWS_SAYING(prepare_and_open(o), UserError, "hold out");
  o = options(0);
  o.document_separator = "\n";
  EXPECT_THROWS_SAYING(prepare_and_open(o), UserError, "document_separator");
  o = options(0);
  o.examples.form = "gsm8k";
  EXPECT_THROWS_SAYING(prepare_and_open(o), DataError, "examples.json");
}

TEST(Examples, TheDataFoldersExamplesAreFoundByTheirForm) {
  NEED_DATA("prosqa");
  TemporaryDirectory directory;
  DataOptions o;
  o.tokenizer = "word";
  o.examples.form = "prosqa";
  o.prepared_directory = directory / "prosqa";
  const Dataset prosqa = prepare_and_open(o);
  EXPECT_EQ(prosqa.name(), "prosqa");
  EXPECT_EQ((prosqa.train.count() + prosqa.validation.count()) / prosqa.examples->length, 300);
  EXPECT_LT(prosqa.vocabulary_size(), 100);
  o.examples.form = "gsm8k";
  o.tokenizer = "char";
  o.examples.stage = 1;
  o.prepared_directory = directory / "gsm8k";
  const Dataset gsm8k = prepare_and_open(o);
  EXPECT_EQ((gsm8k.train.count() + gsm8k.validation.count()) / gsm8k.examples->length, 7473);
}

TEST(WordTokenizer, GivesTheTextBack) {
  const std::string text = "Every shumpus is a rempus. Is Tom  a lempus\nor 12 caf\u00e9s?";
  const auto tokenizer = WordTokenizer::from_text(text);
  const auto ids = tokenizer->encode(text);
  EXPECT_EQ(tokenizer->decode(ids), text);
  EXPECT_EQ(tokenizer->decode({&ids[1], 1}), " shumpus");
  EXPECT_EQ(ids[3], tokenizer->encode(" a")[0]);
  const auto again = tokenizer_from_definition(tokenizer->definition());
  EXPECT_EQ(again->hash(), tokenizer->hash());
  EXPECT_EQ(again->encode(text), ids);
  for (size_t wanted = 0; wanted <= text.size(); ++wanted) {
    const size_t cut = tokenizer->cut_after(text, wanted);
    ASSERT_GE(cut, wanted);
    auto joined = tokenizer->encode(text.substr(0, cut));
    const auto rest = tokenizer->encode(text.substr(cut));
    joined.insert(joined.end(), rest.begin(), rest.end());
    EXPECT_EQ(joined, ids) << wanted;
  }
  // The first such place, behind a line break as well.
  EXPECT_EQ(tokenizer->cut_after(text, 2), 5u);
  EXPECT_EQ(tokenizer->cut_after(text, 6), 13u) << "a space belongs to the word behind it";
  const size_t line = text.find('\n');
  EXPECT_EQ(tokenizer->cut_after(text, line + 1), line + 1);
  EXPECT_EQ(tokenizer->cut_after(text, line + 2), line + 3);
  EXPECT_EQ(tokenizer->cut_after(text, text.size()), text.size());
}

TEST(WordTokenizer, NamesAWordThatItDoesNotKnow) {
  const auto tokenizer = WordTokenizer::from_text("a b");
  EXPECT_THROWS_SAYING(tokenizer->encode("a c"), UserError, "' c' at byte 1");
  EXPECT_THROWS_SAYING(WordTokenizer::from_text(""), DataError, "empty");
  EXPECT_THROWS_SAYING(WordTokenizer({"b", "a"}), UserError, "rise");
  EXPECT_THROWS_SAYING(WordTokenizer({"a b"}), UserError, "one word");
  const int32_t outside = 2;
  EXPECT_THROWS_SAYING(tokenizer->decode({&outside, 1}), UserError, "vocabulary of 2");
}

}  // namespace
}  // namespace reverie
