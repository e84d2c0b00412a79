#include <nlohmann/json.hpp>

#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/data_support.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryDirectory;
using testing::write_bytes;

TEST(CharTokenizer, IdsAreThePlacesOfTheSortedCharacters) {
  const auto tokenizer =
      CharTokenizer::from_text("hello, w\xC3\xB6rld \xE2\x82\xAC\xF0\x9F\x99\x82");
  // Sorted: ' ' ',' d e h l o r w ö € 🙂
  EXPECT_EQ(tokenizer->vocabulary_size(), 12);
  EXPECT_THAT(tokenizer->encode("hello"), ElementsAre(4, 3, 5, 5, 6));
  EXPECT_THAT(tokenizer->encode("\xC3\xB6\xE2\x82\xAC\xF0\x9F\x99\x82 "),
              ElementsAre(9, 10, 11, 0));
  EXPECT_THAT(tokenizer->encode(""), ElementsAre());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("w\xC3\xB6rld \xF0\x9F\x99\x82")),
            "w\xC3\xB6rld \xF0\x9F\x99\x82");
  EXPECT_FALSE(tokenizer->end_of_text());
}

TEST(CharTokenizer, UnknownCharacterIsNamedWithItsPosition) {
  const auto tokenizer = CharTokenizer::from_text("ab\xC3\xB6");
  EXPECT_THROWS_SAYING(tokenizer->encode("a\xC3\xB6z"), UserError,
                       "'z' (U+007A) at position 2 (byte 3)");
  EXPECT_THROWS_SAYING(tokenizer->encode("\n"), UserError, "U+000A at position 0");
  EXPECT_THROWS_SAYING(tokenizer->encode("\xE2\x82\xAC"), UserError, "U+20AC");
  EXPECT_THROWS_SAYING(tokenizer->decode(std::vector<int32_t>{0, 3}), UserError,
                       "token 3 at position 1");
  EXPECT_THROWS_SAYING(tokenizer->decode(std::vector<int32_t>{-1}), UserError, "token -1");
}

TEST(CharTokenizer, EmptyOrInvalidTextIsRefused) {
  EXPECT_THROWS_SAYING(CharTokenizer::from_text(""), DataError, "empty");
  EXPECT_THROWS_SAYING(CharTokenizer::from_text("abc\xFFz"), DataError,
                       "byte 0xff at byte offset 3");
  const auto tokenizer = CharTokenizer::from_text("abc");
  EXPECT_THROWS_SAYING(tokenizer->encode("ab\xC3"), DataError, "byte offset 2");
}

TEST(Utf8, RefusesWhatTheStandardRefuses) {
  const std::vector<std::string> bad = {
      "\x80",              // a continuation byte alone
      "\xC0\x80",          // overlong NUL
      "\xC1\xBF",          // overlong
      "\xE0\x9F\xBF",      // overlong
      "\xF0\x8F\xBF\xBF",  // overlong
      "\xED\xA0\x80",      // surrogate
      "\xED\xBF\xBF",      // surrogate
      "\xF4\x90\x80\x80",  // above U+10FFFF
      "\xF5\x80\x80\x80",
      "\xFE",
      "\xFF",
      "\xC3",          // cut off
      "\xE2\x82",      // cut off
      "\xF0\x9F\x99",  // cut off
      "\xE2\x28\xA1",  // a continuation byte missing
  };
  for (const std::string& bytes : bad)
    EXPECT_EQ(decode_code_point(bytes, 0).bytes, 0) << ::testing::PrintToString(bytes);
  EXPECT_EQ(count_code_points("a\xC3\xB6\xE2\x82\xAC\xF0\x9F\x99\x82"), 4);
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (uint32_t value = 0; value <= 0x10FFFF; ++value) {
    if (value >= 0xD800 && value <= 0xDFFF) continue;
    std::string text;
    append_code_point(text, value);
    const CodePoint point = decode_code_point(text, 0);
    ASSERT_EQ(point.value, value);
    ASSERT_EQ(size_t(point.bytes), text.size());
  }
}

TEST(CharTokenizer, CutsNeverFallInsideACharacter) {
  const std::string text = "a\xE2\x82\xAC\xF0\x9F\x99\x82";
  const auto tokenizer = CharTokenizer::from_text(text);
  EXPECT_EQ(tokenizer->cut_after(text, 0), 0u);
  EXPECT_EQ(tokenizer->cut_after(text, 1), 1u);
  EXPECT_EQ(tokenizer->cut_after(text, 2), 4u);
  EXPECT_EQ(tokenizer->cut_after(text, 5), 8u);
  EXPECT_EQ(tokenizer->cut_after(text, 8), 8u);
}

TEST(CharTokenizer, SavedAndLoadedItIsEqual) {
  const TemporaryDirectory directory;
  const auto tokenizer = CharTokenizer::from_text("the quick brown f\xC3\xB6x \xE2\x82\xAC");
  tokenizer->save(directory.path());
  const auto loaded = load_tokenizer(directory.path());
  EXPECT_EQ(loaded->name(), "char");
  EXPECT_EQ(loaded->hash(), tokenizer->hash());
  EXPECT_EQ(loaded->encode("f\xC3\xB6x"), tokenizer->encode("f\xC3\xB6x"));
  EXPECT_NE(tokenizer->hash(), CharTokenizer::from_text("the quick brown fox")->hash());
}

TEST(LoadTokenizer, AlteredFilesAreRefused) {
  const TemporaryDirectory directory;
  const std::string file = directory / std::string(kTokenizerFile);
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), UserError, "reverie_tokenizer.json");
  CharTokenizer::from_text("abc")->save(directory.path());
  std::string text = read_file(file);
  const size_t at = text.find("[97,98,99]");
  ASSERT_NE(at, std::string::npos);
  write_bytes(file, std::string(text).replace(at, 10, "[97,98,98]"));  // not rising
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "must rise");
  write_bytes(file, std::string(text).replace(at, 10, "[97,98,90]"));
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "must rise");
  write_bytes(file,
              std::string(text).replace(at, 10, "[96,98,99]"));  // well formed, another tokenizer
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "altered");
  write_bytes(file, text.substr(0, text.size() / 2));
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "not a tokenizer file");
  write_bytes(file, "{\"format\": \"reverie tokenizer 9\"}");
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "reverie tokenizer 1");
  write_bytes(
      file,
      R"({"format": "reverie tokenizer 1", "hash": "", "definition": {"type": "wordpiece"}})");
  EXPECT_THROWS_SAYING(load_tokenizer(directory.path()), DataError, "wordpiece");
}

// nanoGPT's prepare.py prints this vocabulary size for the paper's text.
TEST(CharTokenizer, TinyShakespeareHas65Characters) {
  NEED_DATA("tinyshakespeare/input.txt");
  const std::string text = read_file(testing::data_file("tinyshakespeare/input.txt"));
  const auto tokenizer = CharTokenizer::from_text(text);
  EXPECT_EQ(tokenizer->vocabulary_size(), 65);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

}  // namespace
}  // namespace reverie
