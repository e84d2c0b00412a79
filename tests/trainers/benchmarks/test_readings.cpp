#include "trainers/benchmarks/readings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/message_of.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

class BenchmarkReadings : public ::testing::Test {
 protected:
  BenchmarkItems items(std::vector<std::string> contexts, std::vector<std::string> continuations) {
    BenchmarkItems made;
    made.items.push_back({});
    made.items[0].contexts = std::move(contexts);
    made.items[0].continuations = std::move(continuations);
    return made;
  }
  std::vector<Reading> readings(const BenchmarkItems& of, int64_t room = 100) {
    return likelihood_readings(of, {*tokenizer_, tokenizer_->vocabulary_size(), room});
  }
  std::string text(const std::vector<int32_t>& tokens) { return tokenizer_->decode(tokens); }
  std::shared_ptr<const CharTokenizer> tokenizer_ = CharTokenizer::from_text(" abcdefgh\n");
};

TEST_F(BenchmarkReadings, ShareAContextAmongItsChoices) {
  const auto made = readings(items({"ab"}, {" c", " de"}));
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(text(made[0].context), "ab");
  ASSERT_EQ(made[0].continuations.size(), 2u);
  EXPECT_EQ(text(made[0].continuations[1].tokens), " de");
  EXPECT_EQ(made[0].continuations[1].choice, 1u);
  const auto each = readings(items({"ab", "cb"}, {" d", " d"}));
  ASSERT_EQ(each.size(), 2u);
  EXPECT_EQ(text(each[1].context), "cb");
}

TEST_F(BenchmarkReadings, GiveTheContextsLastSpacesToTheContinuation) {
  const auto made = readings(items({" ab \n "}, {"cd"}));
  EXPECT_EQ(text(made[0].context), " ab");
  EXPECT_EQ(text(made[0].continuations[0].tokens), " \n cd");
}

// lm-eval: (context + continuation)[-(most + 1):][:-1] is read.
TEST_F(BenchmarkReadings, LoseTheBeginningOfWhatIsTooLong) {
  const auto made = readings(items({"abcdef"}, {"gh", "ghab"}), 7);
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(text(made[0].context), "abcdef");
  EXPECT_FALSE(made[0].cut);
  EXPECT_EQ(text(made[1].context), "cdef");
  EXPECT_TRUE(made[1].cut);
  EXPECT_THAT(message_of<UserError>([&] { readings(items({"a"}, {"abcdefgh"}), 7); }),
              HasSubstr("a continuation of 8 tokens is longer than the model reads (7)"));
}

TEST_F(BenchmarkReadings, WantATokenInEveryPlace) {
  EXPECT_THAT(message_of<UserError>([&] { readings(items({""}, {"a"})); }),
              HasSubstr("a context is empty"));
  EXPECT_THAT(message_of<UserError>([&] { readings(items({"a"}, {""})); }),
              HasSubstr("item 0: the continuation '' has no token of its own"));
}

TEST_F(BenchmarkReadings, LeaveRoomForWhatIsWritten) {
  bool cut = false;
  const ReadingOptions options{*tokenizer_, tokenizer_->vocabulary_size(), 10};
  EXPECT_EQ(text(prompt_reading("abcd", 6, options, cut)), "abcd");
  EXPECT_FALSE(cut);
  EXPECT_EQ(text(prompt_reading("abcdef", 6, options, cut)), "cdef");
  EXPECT_TRUE(cut);
  EXPECT_THAT(message_of<UserError>([&] { prompt_reading("a", 10, options, cut); }),
              HasSubstr("10 tokens are to be written, and the model reads 10 in all"));
}

TEST_F(BenchmarkReadings, HaveACommonBeginning) {
  const auto reading = [&](const std::string& context, bool cut = false) {
    return Reading{tokenizer_->encode(context), {}, "", cut};
  };
  const auto common = [&](const std::vector<Reading>& list) {
    std::vector<const Reading*> places;
    for (const Reading& r : list) places.push_back(&r);
    return text(common_beginning(places));
  };
  EXPECT_EQ(common({reading("abcd"), reading("abce"), reading("abcdef")}), "abc");
  EXPECT_EQ(common({reading("abc"), reading("abcd")}), "ab");  // a token of each is left
  EXPECT_EQ(common({reading("abc"), reading("ba", true), reading("abd")}), "ab");
  EXPECT_EQ(common({reading("abc"), reading("ba")}), "");
}

}  // namespace
}  // namespace reverie
