// A cache of words gives what encoding gives, whatever it has kept or thrown out.

#include "datasets/tokenizers/word_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace reverie {
namespace {

// Tokens that say which word they are of; longer words have more, up to 15.
void encode(std::string_view word, std::vector<int32_t>& tokens) {
  int32_t hash = 17;
  for (const char byte : word) hash = int32_t(uint32_t(hash) * 31 + uint8_t(byte));
  for (size_t i = 0; i <= word.size() / 2; ++i) tokens.push_back(hash + int32_t(i));
}

// Words of 0 to 30 bytes, zeros among them; many begin alike, and short ones come again and again.
std::vector<std::string> words(size_t count) {
  std::mt19937 random(5);
  std::vector<std::string> made;
  for (size_t i = 0; i < count; ++i) {
    std::string word(random() % 31, 'a');
    for (size_t changed = random() % 3; changed > 0 && !word.empty(); --changed)
      word[random() % word.size()] = char(random() % 4 == 0 ? 0 : 'a' + random() % 26);
    made.push_back(word);
  }
  return made;
}

TEST(WordCache, GivesWhatEncodingGives) {
  WordCache cache;
  size_t encoded = 0, count = 0;
  for (const std::string& word : words(400'000)) {
    std::vector<int32_t> wanted = {-1}, got = {-1};
    encode(word, wanted);
    cache.append(word, got, [&](std::string_view w, std::vector<int32_t>& tokens) {
      ++encoded;
      encode(w, tokens);
    });
    ASSERT_EQ(got, wanted) << word;
    ++count;
  }
  EXPECT_LT(encoded, count * 3 / 4);  // some come from the cache
}

// Places are made before their words are appended, and whatever follows a word in its text does not
// count.
TEST(WordCache, PlacesMayWait) {
  WordCache cache;
  std::string text;
  std::vector<size_t> ends;
  for (const std::string& word : words(20'000)) {
    text += word;
    ends.push_back(text.size());
  }
  std::vector<WordCache::Place> places;
  std::vector<int32_t> wanted, got;
  for (int round = 0; round < 2; ++round) {
    places.clear();
    for (size_t i = 0, at = 0; i < ends.size(); at = ends[i++]) {
      const std::string_view word(text.data() + at, ends[i] - at);
      encode(word, wanted);
      places.push_back(cache.place(word, text.size() - at));
    }
    for (const WordCache::Place& place : places) cache.append(place, got, encode);
  }
  EXPECT_EQ(got, wanted);
}

TEST(WordCache, AWordThatIsMetAgainIsNotEncodedAgain) {
  WordCache cache;
  std::vector<int32_t> tokens;
  int encoded = 0;
  const auto count = [&](std::string_view word, std::vector<int32_t>& out) {
    ++encoded;
    encode(word, out);
  };
  for (int i = 0; i < 10; ++i) cache.append(" the", tokens, count);
  EXPECT_EQ(encoded, 1);
  EXPECT_EQ(tokens.size(), 30u);
  for (int i = 0; i < 10; ++i) cache.append(std::string(23, 'x'), tokens, count);  // too long
  EXPECT_EQ(encoded, 11);
}

}  // namespace
}  // namespace reverie
