// Where a text that comes token by token ends, and what of it is given out when.

#include "trainers/generation/ending_text.h"

#include <gtest/gtest.h>

#include "datasets/tokenizers/char_tokenizer.h"

namespace reverie {
namespace {

// a = 0, b = 1, .. and é = 26.
CharTokenizer small_letters() {
  std::vector<uint32_t> characters;
  for (uint32_t c = 'a'; c <= 'z'; ++c) characters.push_back(c);
  characters.push_back(0xE9);
  return CharTokenizer(characters);
}

// What each token gives out, until the text has ended.
std::vector<std::string> given_out(EndingText& text, const std::vector<int32_t>& tokens) {
  std::vector<std::string> out;
  for (const int32_t token : tokens) {
    if (text.ended()) break;
    out.push_back(text.add(token));
  }
  return out;
}

using Pieces = std::vector<std::string>;

TEST(EndingText, EndsAtItsLength) {
  const CharTokenizer tokenizer = small_letters();
  EndingText text(tokenizer, {.max_tokens = 3});
  EXPECT_EQ(given_out(text, {0, 1, 26, 3}), (Pieces{"a", "b", "é"}));
  EXPECT_EQ(text.finish(), "length");
  EXPECT_EQ(text.tokens(), 3);
  EXPECT_FALSE(text.ended_by_token());
  EXPECT_EQ(text.add(5), "") << "nothing comes behind the end";
  EXPECT_EQ(text.tokens(), 3);
}

TEST(EndingText, EndsInFrontOfAnyOfItsTokens) {
  const CharTokenizer tokenizer = small_letters();
  for (const int32_t end : {4, 9}) {
    EndingText text(tokenizer, {.max_tokens = 9, .ends = {4, 9}});
    EXPECT_EQ(given_out(text, {0, end, 1}), (Pieces{"a", ""}));
    EXPECT_EQ(text.finish(), "stop");
    EXPECT_TRUE(text.ended_by_token());
    EXPECT_EQ(text.tokens(), 2) << "the end was drawn, too";
  }
}

TEST(EndingText, HoldsBackWhatMayBeAStopString) {
  const CharTokenizer tokenizer = small_letters();
  EndingText text(tokenizer, {.max_tokens = 9, .stops = {"bcd", "xy"}});
  EXPECT_EQ(given_out(text, {0, 1, 2, 1, 2, 3, 7}), (Pieces{"a", "", "", "bc", "", ""}));
  EXPECT_EQ(text.finish(), "stop");
  EXPECT_FALSE(text.ended_by_token());
  EXPECT_EQ(text.tokens(), 6);
}

TEST(EndingText, GivesOutWhatItHeldBackWhereItEndsOtherwise) {
  const CharTokenizer tokenizer = small_letters();
  EndingText full(tokenizer, {.max_tokens = 3, .stops = {"bcd"}});
  EXPECT_EQ(given_out(full, {0, 1, 2}), (Pieces{"a", "", "bc"}));
  EXPECT_EQ(full.finish(), "length");
  EndingText ended(tokenizer, {.max_tokens = 9, .ends = {25}, .stops = {"bcd"}});
  EXPECT_EQ(given_out(ended, {1, 2, 25}), (Pieces{"", "", "bc"}));
  EXPECT_EQ(ended.finish(), "stop");
}

}  // namespace
}  // namespace reverie
