// Tokenizers of ours in the files of other programs: the golden files are those of the `tokenizers`
// library, or were read by transformers (tests/golden/make/make_export_golden.py).

#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "datasets/data_support.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/formats/gguf_tokenizer_writer.h"
#include "datasets/tokenizers/formats/hugging_face_writer.h"
#include "datasets/tokenizers/formats/written_spec.h"
#include "datasets/tokenizers/odd_texts.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/" + name;
}
// Objects without an order.
nlohmann::json plain(const Json& json) {
  return nlohmann::json::parse(json.dump());
}
nlohmann::json read_plain(const std::string& file) {
  return nlohmann::json::parse(read_file(file));
}

HuggingFaceTokenizer written(const Tokenizer& tokenizer) {
  return hugging_face_tokenizer(tokenizer, 64, odd_texts(tokenizer, 300));
}

// ---- the library's own files -----------------------------------------------------------------

class LibraryFiles : public ::testing::TestWithParam<const char*> {};
TEST_P(LibraryFiles, AreWrittenAsTheyWereRead) {
  const std::string directory = golden(std::string("tokenizers/") + GetParam());
  const auto tokenizer = load_tokenizer_for(directory);
  const nlohmann::json got = plain(written(*tokenizer).tokenizer);
  const nlohmann::json wanted = read_plain(directory + "/tokenizer.json");
  EXPECT_EQ(got.at("model").at("merges"), wanted.at("model").at("merges"));
  // Added tokens stand in our vocabulary too, which the library allows.
  for (const auto& [token, id] : wanted.at("model").at("vocab").items())
    EXPECT_EQ(got.at("model").at("vocab").at(token), id);
  for (const char* key : {"type", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges",
                          "dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    EXPECT_EQ(got.at("model").at(key), wanted.at("model").at(key)) << key;
  for (const char* part : {"normalizer", "pre_tokenizer", "decoder", "added_tokens"})
    EXPECT_EQ(got.at(part), wanted.at(part)) << part;
}
INSTANTIATE_TEST_SUITE_P(All, LibraryFiles,
                         ::testing::Values("smollm", "llama3", "qwen2", "prefix", "splits",
                                           "llama2", "metaspace", "unknown"),
                         [](const auto& info) { return std::string(info.param); });

// ---- what transformers read of our files ------------------------------------------------------

class ReadByTransformers : public ::testing::TestWithParam<const char*> {};
TEST_P(ReadByTransformers, IsTheFileAndTheIdsAreOurs) {
  const Json made = Json::parse(read_file(golden(std::string("exports/") + GetParam() + ".json")));
  const auto tokenizer = tokenizer_from_definition(made.at("definition"));
  const HuggingFaceTokenizer files = hugging_face_tokenizer(
      *tokenizer, made.at("files").at("tokenizer_config.json").at("model_max_length"),
      odd_texts(*tokenizer, 300));
  EXPECT_EQ(plain(files.tokenizer), plain(made.at("files").at("tokenizer.json")));
  EXPECT_EQ(plain(files.config), plain(made.at("files").at("tokenizer_config.json")));
  const Json &texts = made.at("texts"), &ids = made.at("ids");
  ASSERT_GE(texts.size(), 100u);
  ASSERT_EQ(texts.size(), ids.size());
  for (size_t i = 0; i < texts.size(); ++i)
    EXPECT_EQ(tokenizer->encode(texts[i].get<std::string>()), ids[i].get<std::vector<int32_t>>())
        << texts[i].dump();
  std::vector<int32_t> begins;
  if (tokenizer->adds_begin_of_text()) begins.push_back(*tokenizer->begin_of_text());
  EXPECT_EQ(made.at("begins").get<std::vector<int32_t>>(), begins);
}
INSTANTIATE_TEST_SUITE_P(All, ReadByTransformers,
                         ::testing::Values("char", "word", "gpt2", "pieces", "pieces_no_prefix",
                                           "llama2", "llama3", "qwen2"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerJson, NamesOnlyTokensThatAreReadInText) {
  SubwordSpec spec;
  spec.name = "bpe";
  spec.tokens = {"a", "b", "<s>", "</s>"};
  spec.decoder = {{"type", "Fuse"}};
  spec.begin_of_text = 2;
  spec.end_of_text = 3;
  spec.adds_begin_of_text = true;
  spec.added = {{.id = 3, .text = "</s>", .special = true}};
  const HuggingFaceTokenizer files = written(SubwordTokenizer(spec));
  // transformers would read "<s>" in a text as token 2, were it named.
  EXPECT_TRUE(files.config.at("bos_token").is_null());
  EXPECT_EQ(files.config.at("eos_token"), "</s>");
  EXPECT_EQ(files.special, Json({{"eos_token", "</s>"}}));
  EXPECT_TRUE(files.config.at("add_bos_token").get<bool>());
  EXPECT_EQ(files.tokenizer.at("post_processor").at("special_tokens").at("<s>").at("ids"),
            Json::array({2}));
  const CharTokenizer characters({'a', 'b'});
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"})
    EXPECT_TRUE(written(characters).config.at(key).is_null()) << key;
}

// A space before a text, and pieces that are found in normalized text: what merges make of the text
// must not differ from what whole words are.
TEST(TokenizerJson, PiecesBehindASpaceBecomeAPreTokenizer) {
  const auto pieces = load_tokenizer_for(golden("tokenizers/pieces.model"));
  const Json file = written(*pieces).tokenizer;
  EXPECT_EQ(file.at("model").at("ignore_merges"), true);
  const Json& steps = file.at("pre_tokenizer").at("pretokenizers");
  ASSERT_EQ(steps.size(), 3u);  // its own pieces, names of bytes, the name of the unknown token
  EXPECT_THAT(steps[0].at("pattern").at("Regex").get<std::string>(), HasSubstr("TAG\\[x\\]"));
  for (const Json& token : file.at("added_tokens")) EXPECT_FALSE(token.at("normalized")) << token;

  const SubwordSpec spec = *spec_of(*pieces);
  // The same vocabulary with more pieces, and the characters that they are made of.
  const auto refusal = [&](const std::vector<std::string>& more) {
    SubwordSpec with = spec;
    const auto add = [&](const std::string& token) {
      if (std::find(with.tokens.begin(), with.tokens.end(), token) != with.tokens.end()) return;
      with.tokens.push_back(token);
      with.scores.push_back(-1e6f);
      with.made_by_merging.push_back(true);
    };
    for (const std::string& token : more) {
      for (const char character : token) add(std::string(1, character));
      add(token);
    }
    try {
      written(SubwordTokenizer(with));
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("written");
  };
  EXPECT_EQ(refusal({}), "written");
  EXPECT_EQ(refusal({"<0"}), "written") << "names of bytes are cut elsewhere";
  EXPECT_THAT(refusal({"<0", "0x"}), HasSubstr("would be that byte"));
  EXPECT_THAT(refusal({"<u", "un", "nk", "k>"}), HasSubstr("a text that is '<unk>'"));
  // No two pieces make it.
  EXPECT_THAT(refusal({"q!z"}),
              AllOf(HasSubstr("never make the piece 'q!z'"), HasSubstr("--export-gguf")));
}

TEST(TokenizerJson, WhatItCannotSayIsRefused) {
  SubwordSpec spec;
  spec.name = "bpe";
  spec.tokens = {"a", "b", "ab", "a"};
  spec.decoder = {{"type", "Fuse"}};
  spec.merges = {{0, 1, 2}};
  EXPECT_THROWS_SAYING(written(SubwordTokenizer(spec)), UserError,
                       "the tokens 0 and 3 are both 'a'");
  spec.tokens = {"a", "b", "ba", "c"};
  EXPECT_THROWS_SAYING(written(SubwordTokenizer(spec)), UserError, "the merge of 'a' and 'b'");
  // Scores whose order no list has: which of two equal ones is made depends on where it stands.
  spec.merges.clear();
  spec.tokens = {"a", "b", "c", "ab", "bc", "ca"};
  spec.scores = {0, 0, 0, -1, -1, -1};
  spec.made_by_merging.assign(6, true);
  EXPECT_THROWS_SAYING(written(SubwordTokenizer(spec)), UserError,
                       "cannot say what this vocabulary");
  spec.tokens[2] = "x";  // "bc" is made of a character that is no piece
  EXPECT_THROWS_SAYING(written(SubwordTokenizer(spec)), UserError, "which is no piece of its own");
}

// ---- GGUF
// ----------------------------------------------------------------------------------------

std::shared_ptr<const Tokenizer> through_gguf(const Tokenizer& tokenizer, int64_t rows) {
  const TemporaryDirectory directory;
  GgufWriter out;
  write_gguf_tokenizer(out, tokenizer, rows);
  out.save(directory / "tokenizer.gguf");
  return load_tokenizer_for(directory / "tokenizer.gguf");
}

void expect_same_ids(const Tokenizer& a, const Tokenizer& b) {
  for (const std::string& text : odd_texts(a, 400))
    EXPECT_EQ(a.encode(text), b.encode(text)) << text;
  EXPECT_EQ(a.adds_begin_of_text(), b.adds_begin_of_text());
  EXPECT_EQ(a.end_of_text(), b.end_of_text());
}

TEST(GgufTokenizer, GivesTheSameIdsWhenItIsReadBack) {
  for (const char* name : {"smollm.gguf", "llama3.gguf", "qwen2.gguf", "pieces.gguf",
                           "pieces_no_prefix.gguf", "pieces.model"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = load_tokenizer_for(golden(std::string("tokenizers/") + name));
    expect_same_ids(*tokenizer, *through_gguf(*tokenizer, tokenizer->vocabulary_size()));
  }
  const auto gpt2 = tokenizer_from_definition(
      Json::parse(read_file(golden("exports/gpt2.json"))).at("definition"));
  const auto padded = through_gguf(*gpt2, gpt2->vocabulary_size() + 7);
  EXPECT_EQ(padded->vocabulary_size(), gpt2->vocabulary_size() + 7);
  expect_same_ids(*gpt2, *padded);
}

TEST(GgufTokenizer, WhatItCannotSayIsRefused) {
  EXPECT_THROWS_SAYING(through_gguf(CharTokenizer({'a', 'b'}), 2), UserError,
                       "of type 'char' (where no token ends");
  EXPECT_THROWS_SAYING(through_gguf(WordTokenizer({"a", "b"}), 2), UserError, "of type 'word'");
  const auto file = [](const char* name) {
    return load_tokenizer_for(golden(std::string("tokenizers/") + name));
  };
  EXPECT_THROWS_SAYING(through_gguf(*file("splits"), 500), UserError, "way of splitting");
  EXPECT_THROWS_SAYING(through_gguf(*file("llama2"), 700), UserError, "merges of characters");
  EXPECT_THROWS_SAYING(through_gguf(*file("smollm"), 600), UserError, "white space beside it");
  EXPECT_THROWS_SAYING(through_gguf(*file("smollm.gguf"), 3), UserError, "do not belong together");
  SubwordSpec endless = *spec_of(*file("smollm.gguf"));
  endless.end_of_text.reset();
  EXPECT_THROWS_SAYING(through_gguf(SubwordTokenizer(endless), 600), UserError, "ends a text");
}

// ---- odd texts
// -----------------------------------------------------------------------------------

TEST(OddTexts, AreTextsOfTheVocabularyAndAlwaysTheSame) {
  const CharTokenizer characters({' ', 'a', 0x4E16});
  const std::vector<std::string> texts = odd_texts(characters, 200);
  EXPECT_EQ(texts.size(), 200u);
  EXPECT_EQ(texts, odd_texts(characters, 200));
  for (const std::string& text : texts) EXPECT_NO_THROW(characters.encode(text));
}

}  // namespace
}  // namespace reverie
