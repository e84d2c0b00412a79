// Marks of examples as special tokens of published vocabularies: ids, texts, files of other
// programs, data sets.

#include "datasets/example_marks.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/stage_sampler.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/extended_vocabulary.h"
#include "datasets/tokenizers/formats/gguf_tokenizer_writer.h"
#include "datasets/tokenizers/formats/hugging_face_writer.h"
#include "datasets/tokenizers/odd_texts.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr std::string_view kThoughtText = kMarkTexts.back();

std::string published(const std::string& name) {
  return testing::test_directory() + "/golden/tokenizers/" + name;
}
// A golden vocabulary, or GPT-2's of few merges.
std::shared_ptr<const Tokenizer> vocabulary(const std::string& name) {
  if (name != "gpt2") return load_tokenizer_for(published(name));
  const std::string file = testing::test_directory() + "/golden/exports/gpt2.json";
  return tokenizer_from_definition(Json::parse(read_file(file)).at("definition"));
}

void expect_marks_of(const Tokenizer& marked, const Tokenizer& same) {
  EXPECT_EQ(first_mark_in(same), first_mark_in(marked));
  for (const std::string& text : odd_texts(marked, 300))
    EXPECT_EQ(same.encode(text), marked.encode(text)) << text;
}

class MarkedVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(MarkedVocabulary, HasTheMarksBehindItsTokensAndReadsThemInText) {
  const auto plain = vocabulary(GetParam());
  const auto marked = with_marks(plain);
  const int32_t first = plain->vocabulary_size();
  EXPECT_EQ(first_mark_in(*plain), std::nullopt);
  EXPECT_EQ(first_mark_in(*marked), first);
  EXPECT_EQ(marks_behind(*plain), ExampleLayout::kMarks);
  EXPECT_EQ(marks_behind(*marked), 0);
  EXPECT_EQ(marked->vocabulary_size(), first + ExampleLayout::kMarks);
  EXPECT_LE(marked->ordinary_vocabulary_size(), first) << "a model may lack their rows";
  EXPECT_EQ(marked->end_of_text(), plain->end_of_text());
  EXPECT_EQ(marked->adds_begin_of_text(), plain->adds_begin_of_text());
  for (size_t i = 0; i < kMarkTexts.size(); ++i) {
    const int32_t id = first + int32_t(i);
    EXPECT_EQ(special_token(*marked, kMarkTexts[i]), id);
    EXPECT_EQ(marked->encode(kMarkTexts[i]), std::vector<int32_t>{id});
    EXPECT_EQ(marked->decode_continued({&id, 1}), kMarkTexts[i]);
    EXPECT_EQ(marked->encode(kMarkTexts[i], SpecialTokens::as_text),
              plain->encode(kMarkTexts[i], SpecialTokens::as_text));
  }
  const std::string text = "a b" + std::string(kThoughtText) + std::string(kMarkTexts[0]) + " c";
  const auto ids = marked->encode(text);
  EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return id >= first; }), 2);
  EXPECT_EQ(tokenizer_from_definition(marked->definition())->hash(), marked->hash());
  EXPECT_NE(marked->hash(), plain->hash());
  // Texts without marks keep their ids; who has the marks gets no second ones.
  for (const std::string& odd : odd_texts(*plain, 200))
    EXPECT_EQ(marked->encode(odd), plain->encode(odd)) << odd;
  EXPECT_EQ(with_marks(marked)->hash(), marked->hash());
}

TEST_P(MarkedVocabulary, IsTheSameBehindHuggingFacesFiles) {
  const auto marked = with_marks(vocabulary(GetParam()));
  const HuggingFaceTokenizer files = hugging_face_tokenizer(*marked, 64, odd_texts(*marked, 300));
  const TemporaryDirectory directory;
  write_file_atomically(directory / "tokenizer.json", json_text(files.tokenizer));
  write_file_atomically(directory / "tokenizer_config.json", json_text(files.config));
  write_file_atomically(directory / "special_tokens_map.json", json_text(files.special));
  expect_marks_of(*marked, *load_tokenizer_for(directory.path()));
}
INSTANTIATE_TEST_SUITE_P(All, MarkedVocabulary,
                         ::testing::Values("smollm.gguf", "llama3", "qwen2", "pieces.model",
                                           "pieces_no_prefix.model", "gpt2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(ExampleMarks, AreTheSameBehindGguf) {
  for (const char* name : {"smollm.gguf", "llama3.gguf", "qwen2.gguf", "pieces.model", "gpt2"})
    for (const int64_t spare : {0, 6}) {
      SCOPED_TRACE(fmt::format("{} with {} spare rows", name, spare));
      const auto marked = with_marks(vocabulary(name));
      const TemporaryDirectory directory;
      GgufWriter out;
      write_gguf_tokenizer(out, *marked, marked->vocabulary_size() + spare);
      out.save(directory / "tokenizer.gguf");
      const auto again = load_tokenizer_for(directory / "tokenizer.gguf");
      EXPECT_EQ(again->vocabulary_size(), marked->vocabulary_size() + spare);
      expect_marks_of(*marked, *again);
    }
}

TEST(ExampleMarks, WhatCannotBeAddedIsRefused) {
  const auto plain = vocabulary("smollm.gguf");
  const auto add = [&](std::vector<std::string_view> texts) {
    return with_special_tokens(*plain, texts);
  };
  EXPECT_THROWS_SAYING(add({"<|end|>"}), UserError, "cannot be added: it is the token");
  EXPECT_THROWS_SAYING(
      add({"<|x|>", "<|x|>"}), UserError,
      fmt::format("'<|x|>' cannot be added: it is the token {} already", plain->vocabulary_size()));
  EXPECT_THROWS_SAYING(add({""}), UserError, "without a text");
  EXPECT_THROWS_SAYING(add({"\xFF"}), DataError, "byte offset 0");
  EXPECT_EQ(special_token(*add({"<|x|>"}), "<|x|>"), plain->vocabulary_size());
  EXPECT_EQ(special_token(*plain, "<|x|>"), std::nullopt);
  EXPECT_EQ(special_token(*plain, "a"), std::nullopt) << "an ordinary token";
  EXPECT_THROWS_SAYING(with_special_tokens(CharTokenizer({'a'}), kMarkTexts), UserError,
                       "of type 'char' has no special tokens");
  EXPECT_THROWS_SAYING(with_marks(WordTokenizer::from_text("a b")), UserError,
                       "of type 'word' has no special tokens");
}

TEST(ExampleMarks, AreAllThereInTheirOrderOrNoneOfThem) {
  const auto plain = vocabulary("smollm.gguf");
  const auto refused = [&](std::vector<std::string_view> texts) {
    const auto some = with_special_tokens(*plain, texts);
    EXPECT_EQ(first_mark_in(*some), std::nullopt);
    EXPECT_EQ(marks_behind(*some), ExampleLayout::kMarks) << "unnamed ones";
    with_marks(some);
  };
  const int32_t first = plain->vocabulary_size();
  EXPECT_THROWS_SAYING(refused({kMarkTexts[0]}), UserError,
                       fmt::format("'<|start-latent|>' already, as token {}", first));
  EXPECT_THROWS_SAYING(refused({"<|x|>", kThoughtText}), UserError,
                       fmt::format("'<|latent|>' already, as token {}", first + 1));
  EXPECT_THROWS_SAYING(
      refused({kMarkTexts[0], kMarkTexts[2], kMarkTexts[1], kMarkTexts[3], kMarkTexts[4]}),
      UserError, "leave $.data.marks out (unnamed)");
  EXPECT_EQ(token_of_text(*plain, "<|end|>"), special_token(*plain, "<|end|>"));
  EXPECT_EQ(token_of_text(*plain, "a"), plain->encode("a").at(0)) << "an ordinary token";
  EXPECT_EQ(token_of_text(*plain, kThoughtText), std::nullopt);
}

// ---- data sets ----------------------------------------------------------------------------------

class MarkedExamples : public ::testing::Test {
 protected:
  Dataset data_of(const Json& patch) const {
    Json json = {{"problems",
                  {{"type", "arithmetic"},
                   {"operation", "plus"},
                   {"digits", 2},
                   {"second_digits", 2},
                   {"train", 40},
                   {"held_out", 10}}},
                 {"examples", {{"stage", 1}, {"thoughts", 2}}},
                 {"tokenizer", "pretrained"},
                 {"tokenizer_files", published("smollm.gguf")},
                 {"marks", "tokens"},
                 {"prepared_directory", directory_ / "prepared"}};
    json.merge_patch(patch);
    DataOptions options;
    read_config(Config(json, "$.data"), options);
    options.replace = true;
    return prepare_and_open(options);
  }
  static std::vector<int32_t> record(const Dataset& data, int64_t index) {
    std::vector<int32_t> ids(size_t(data.examples->length));
    data.train.copy(index * data.examples->length, ids);
    return ids;
  }
  TemporaryDirectory directory_;
};

TEST_F(MarkedExamples, AreTextsOfTheVocabulary) {
  const auto plain = vocabulary("smollm.gguf");
  const Dataset data = data_of(Json::object());
  ASSERT_TRUE(data.examples);
  EXPECT_EQ(data.tokenizer->hash(), with_marks(plain)->hash());
  EXPECT_EQ(data.vocabulary_size(), data.tokenizer->vocabulary_size());
  EXPECT_EQ(data.examples->first_mark, plain->vocabulary_size());
  EXPECT_EQ(data.examples->thought(), data.vocabulary_size() - 1);
  EXPECT_EQ(recorded_hash(data.provenance), data.hash);
  const auto ids = record(data, 3);
  const std::string text = data.tokenizer->decode(ids);
  EXPECT_THAT(text, HasSubstr("<|start-latent|><|latent|><|latent|><|end-latent|> "));
  EXPECT_THAT(text, HasSubstr("<|answer|> "));
  EXPECT_THAT(text, HasSubstr("<|end-answer|>"));
  EXPECT_EQ(data.tokenizer->encode(text), ids) << "the record is its text";
  // Unnamed marks have the same ids, which are tokens of nothing.
  const Dataset unnamed = data_of({{"marks", "unnamed"}});
  EXPECT_EQ(unnamed.tokenizer->hash(), plain->hash());
  EXPECT_EQ(unnamed.vocabulary_size(), plain->vocabulary_size() + ExampleLayout::kMarks);
  EXPECT_EQ(record(unnamed, 3), ids);
  EXPECT_EQ(recorded_hash(unnamed.provenance), unnamed.hash);
  EXPECT_NE(unnamed.hash, data.hash);
}

// As a stage of a curriculum reads the tokenizer that the one before has exported.
TEST_F(MarkedExamples, AVocabularyThatHasTheMarksIsUsedAsItIs) {
  const std::string hash = data_of(Json::object()).hash;
  with_marks(vocabulary("smollm.gguf"))->save(directory_.path());
  for (const char* marks : {"tokens", "unnamed"}) {
    const Dataset again = data_of({{"marks", marks}, {"tokenizer_files", directory_.path()}});
    EXPECT_EQ(again.hash, hash) << marks;
  }
}

TEST_F(MarkedExamples, AVocabularyWithSomeOfTheMarksHasUnnamedOnes) {
  const auto some =
      with_special_tokens(*vocabulary("smollm.gguf"), std::vector<std::string_view>{kMarkTexts[1]});
  some->save(directory_.path());
  const Dataset data = data_of({{"marks", "unnamed"}, {"tokenizer_files", directory_.path()}});
  EXPECT_EQ(data.examples->first_mark, some->vocabulary_size());
  EXPECT_THROWS_SAYING(data_of({{"tokenizer_files", directory_.path()}}), UserError,
                       "'<|end-latent|>' already");
}

TEST_F(MarkedExamples, MayHaveTheirStagesMixed) {
  for (const char* name : {"smollm.gguf", "llama3.gguf"}) {
    SCOPED_TRACE(name);
    const Dataset data = data_of({{"tokenizer_files", published(name)},
                                  {"examples", {{"mixed_stages", 1.0}}},
                                  {"prepared_directory", directory_ / name}});
    ASSERT_TRUE(data.stage_mix);
    EXPECT_EQ(data.train_steps.vocabulary_size(), data.tokenizer->vocabulary_size());
    EXPECT_EQ(recorded_hash(data.provenance), data.hash);
    const MixedStageSampler sampler(data.train, *data.examples, data.train_steps, *data.stage_mix,
                                    4, 9);
    const Batch batch = sampler.batch(0);
    std::vector<int32_t> own(size_t(data.examples->length));
    for (int64_t row = 0; row < 4; ++row) {
      data.train.copy(sampler.window_start(0, row), own);
      const auto think = std::find(own.begin(), own.end(), data.examples->think());
      EXPECT_TRUE(std::equal(own.begin(), think + 1,
                             batch.tokens.data<int32_t>() + row * batch.tokens.size(1)));
    }
  }
}

TEST_F(MarkedExamples, BeginAsTheirModelSawTexts) {
  const Dataset data = data_of({{"tokenizer_files", published("llama3.gguf")}});
  ASSERT_TRUE(data.tokenizer->adds_begin_of_text());
  const auto ids = record(data, 0);
  EXPECT_EQ(ids.front(), data.tokenizer->begin_of_text());
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *data.tokenizer->begin_of_text()), 1);
  const auto prompt = prompt_of(*data.examples, ids);
  EXPECT_EQ(prompt.front(), data.tokenizer->begin_of_text());
  EXPECT_EQ(prompt.back(), data.examples->end_think());
  const Dataset unnamed =
      data_of({{"tokenizer_files", published("llama3.gguf")}, {"marks", "unnamed"}});
  EXPECT_EQ(unnamed.examples->length, data.examples->length - 1) << "as earlier versions wrote it";
}

TEST_F(MarkedExamples, OptionsThatDoNotGoTogetherAreRefused) {
  EXPECT_THROWS_SAYING(data_of({{"tokenizer", "word"}}), UserError,
                       "$.data.tokenizer is \"word\": wanted \"pretrained\"");
  EXPECT_THROWS_SAYING(data_of({{"problems", nullptr}, {"examples", nullptr}}), UserError,
                       "the data are no examples");
  EXPECT_THROWS_SAYING(
      data_of({{"problems", nullptr}, {"path", "x.txt"}, {"examples", {{"form", "recount"}}}}),
      UserError, "the data are no examples");
  EXPECT_THROWS_SAYING(data_of({{"tokenizer", "gpt2"}, {"marks", "unnamed"}}), UserError,
                       "data.tokenizer does not apply");
  EXPECT_THROWS_SAYING(data_of({{"marks", "others"}}), ConfigError, "marks cannot be");
}

}  // namespace
}  // namespace reverie
