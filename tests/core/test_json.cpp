// JSON from files: 100,000 brackets are an error, not the end of the process.

#include "core/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace reverie {
namespace {

std::string nested(int levels, const std::string& open, const std::string& close,
                   const std::string& inside) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += open;
  text += inside;
  for (int i = 0; i < levels; ++i) text += close;
  return text;
}

TEST(ParseJson, IsBoundedInDepth) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{"{\"a\":", "}"}}) {
    EXPECT_NO_THROW(parse_json(nested(kDeepestJson, open, close, "1")));
    EXPECT_FALSE(parse_json_or_discard(nested(kDeepestJson, open, close, "1")).is_discarded());
    for (const int levels : {kDeepestJson + 1, 100000}) {
      const std::string deep = nested(levels, open, close, "1");
      EXPECT_THROW(parse_json(deep), Json::exception);
      EXPECT_TRUE(parse_json_or_discard(deep).is_discarded());
      EXPECT_THROW(parse_json(deep.substr(0, deep.size() / 2)), Json::exception);
    }
  }
}

TEST(ParseJson, BracketsInStringsOpenNothing) {
  const std::string text = "[\"" + std::string(5000, '[') + "\\\"{{{\", 1]";
  EXPECT_EQ(parse_json(text)[1], 1);
  std::string flat = "[";
  for (int i = 0; i < 1000; ++i) flat += "[],{},";
  EXPECT_EQ(parse_json(flat + "0]").size(), 2001u);
}

TEST(ParseJson, IsOtherwiseTheLibrarys) {
  EXPECT_EQ(json_text(parse_json(R"({"b": 1, "a": [true, null]})")), R"({"b":1,"a":[true,null]})");
  EXPECT_THROW(parse_json("{"), Json::exception);
  EXPECT_TRUE(parse_json_or_discard("nonsense").is_discarded());
}

TEST(JsonLine, HasSpacesBetweenValuesAndNoneInTexts) {
  const Json value = parse_json(R"({"b":[1,2],"a,b:c":"x,y:\"z,\\","d":{}})");
  EXPECT_EQ(json_line(value), R"({"b": [1, 2], "a,b:c": "x,y:\"z,\\", "d": {}})");
  EXPECT_EQ(parse_json(json_line(value)), value);
}

}  // namespace
}  // namespace reverie
