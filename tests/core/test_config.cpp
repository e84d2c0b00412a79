// Parsing, paths, overrides and merging. Fieldsets: test_fieldset.cpp.

#include "core/config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <type_traits>

#include "core/error.h"
#include "core/fixtures.h"
#include "core/json.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string parse_error(const std::string& text) {
  return message_of<ConfigError>([&] { Config::parse(text, "c.json"); });
}

TEST(Config, ParsesJsonAndKeepsTheOrderOfKeys) {
  const Config c =
      Config::parse(R"({"z": [1, {"y": null}], "a": "\u00e9", "n": -2.5e3})", "c.json");
  EXPECT_EQ(json_text(c.json()), R"({"z":[1,{"y":null}],"a":"é","n":-2500.0})");
  EXPECT_EQ(c.path(), "$");
  EXPECT_EQ(c.source(), "c.json");
  EXPECT_TRUE(c.has("z"));
  EXPECT_FALSE(c.has("y"));
  EXPECT_EQ(Config::parse("7", "").json(), 7);
  EXPECT_TRUE(Config().json().is_object());
}

TEST(Config, AValueOutlivesTheConfigThatItWasReadThrough) {
  const Config config =
      Config::parse(R"({"a": {"b": "a text that is longer than any that fits"}})", "test");
  const Json& value = config.at("a").at("b").json();
  EXPECT_EQ(value, "a text that is longer than any that fits");
  static_assert(!std::is_reference_v<decltype(Config().json())>);
}

TEST(Config, DuplicateKeysAreRefusedWithTheirPath) {
  EXPECT_THAT(parse_error(R"({"a": 1, "a": 1})"),
              AllOf(HasSubstr("c.json"), HasSubstr("duplicate key \"a\" at $;")));
  EXPECT_THAT(parse_error(R"({"m": {"x": [0, {"k": 1, "l": 2, "k": 3}]}})"),
              HasSubstr("duplicate key \"k\" at $.m.x[1];"));
  EXPECT_THAT(parse_error(R"({"odd key": {"a": {}, "\u0061": 2}})"),
              HasSubstr("duplicate key \"a\" at $[\"odd key\"];"));
  // The same key in different objects is none.
  EXPECT_NO_THROW(Config::parse(R"({"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]})", ""));
}

TEST(Config, SyntaxErrorsSayLineAndColumn) {
  EXPECT_THAT(parse_error("{\n  \"a\": 1,\n  \"b\": ?\n}"), HasSubstr("line 3, column 8"));
  EXPECT_THAT(parse_error("{,}"), HasSubstr("line 1, column 2"));
  EXPECT_THAT(parse_error("{\"a\": 1} {"), HasSubstr("line 1, column 10"));  // trailing text
  EXPECT_THAT(parse_error("{\"a\": 1 // one\n}"), HasSubstr("line 1, column 9"));
  for (const char* bad : {"", " ", "{", "{\"a\"", "[1,]", "{\"a\":}", "{'a': 1}", "nan", "1e999",
                          "01", "\"\xff\"", "{\"a\": Infinity}", "tru", "\"a\nb\""})
    EXPECT_THAT(parse_error(bad), HasSubstr("line ")) << bad;
}

TEST(Config, HostileNestingIsRefused) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 100000; ++i) text += open;
    EXPECT_THAT(parse_error(text), HasSubstr("nested deeper than 64"));
  }
  EXPECT_NO_THROW(Config::parse(std::string(64, '[') + std::string(64, ']'), ""));
  EXPECT_THROW(Config::parse(std::string(65, '[') + std::string(65, ']'), ""), ConfigError);
}

TEST(Config, EveryPrefixOfAConfigIsRefused) {
  const std::string text = R"({"a": {"b": [1, true, "x\n\u00e9"]}, "c": -1.5e-3})";
  EXPECT_NO_THROW(Config::parse(text, ""));
  for (size_t n = 0; n < text.size(); ++n)
    EXPECT_THROW(Config::parse(text.substr(0, n), ""), ConfigError) << n;
}

TEST(Config, AtWalksDownAndNamesTheNearestKey) {
  const Config c = Config::parse(R"({"model": {"n_layer": 2}, "list": []})", "c.json");
  EXPECT_EQ(c.at("model").at("n_layer").json(), 2);
  EXPECT_EQ(c.at("model").at("n_layer").path(), "$.model.n_layer");
  EXPECT_THAT(
      message_of<ConfigError>([&] { c.at("model").at("n_layers"); }),
      AllOf(HasSubstr("c.json"), HasSubstr("\"n_layers\" at $.model"), HasSubstr("\"n_layer\"?")));
  EXPECT_THAT(message_of<ConfigError>([&] { c.at("list").at("x"); }),
              HasSubstr("$.list must be an object, got []"));
}

TEST(Config, FromFileTellsAMissingFileAsAUsageError) {
  const TemporaryDirectory directory;
  write_plainly(directory / "good.json", "{\"a\": 1}");
  EXPECT_EQ(Config::from_file(directory / "good.json").at("a").json(), 1);
  EXPECT_THAT(message_of<ConfigError>([&] { Config::from_file(directory / "none.json"); }),
              AllOf(HasSubstr("none.json"), HasSubstr("No such file")));
  EXPECT_THROW(Config::from_file(directory.path()), ConfigError);
}

Json after_set(const std::string& before, const std::string& assignment) {
  Config c = Config::parse(before, "");
  c.set(assignment);
  return c.json();
}
std::string set_error(const std::string& before, const std::string& assignment) {
  return message_of<ConfigError>([&] { after_set(before, assignment); });
}

TEST(ConfigSet, ValuesAreJsonOrElseStrings) {
  EXPECT_EQ(json_text(after_set("{}", "a=1")), R"({"a":1})");
  EXPECT_EQ(json_text(after_set("{}", "a=1.0")), R"({"a":1.0})");
  EXPECT_EQ(json_text(after_set("{}", "a=true")), R"({"a":true})");
  EXPECT_EQ(json_text(after_set("{}", "a=null")), R"({"a":null})");
  EXPECT_EQ(json_text(after_set("{}", "a=auto")), R"({"a":"auto"})");
  EXPECT_EQ(json_text(after_set("{}", "a=\"1\"")), R"({"a":"1"})");
  EXPECT_EQ(json_text(after_set("{}", "a=x=y, z")), R"({"a":"x=y, z"})");
  EXPECT_EQ(json_text(after_set("{}", R"(a={"b": [1]})")), R"({"a":{"b":[1]}})");
  EXPECT_EQ(json_text(after_set("{}", "a=\"\"")), R"({"a":""})");
}

TEST(ConfigSet, CreatesWhatIsMissingAndIndexesArrays) {
  EXPECT_EQ(json_text(after_set("{}", "a.b.c=1")), R"({"a":{"b":{"c":1}}})");
  EXPECT_EQ(json_text(after_set(R"({"a": null})", "a.b=1")), R"({"a":{"b":1}})");
  EXPECT_EQ(json_text(after_set(R"({"a": {"b": 1, "c": 2}})", "a.b=3")), R"({"a":{"b":3,"c":2}})");
  EXPECT_EQ(json_text(after_set(R"({"a": [1, {"b": 2}]})", "a.1.b=3")), R"({"a":[1,{"b":3}]})");
  EXPECT_EQ(json_text(after_set(R"({"a": [1]})", "a.1=2")), R"({"a":[1,2]})");
}

TEST(ConfigSet, AValueIsTakenAsItIs) {
  Config c = Config::parse(R"({"a": [1], "n": 3})", "");
  c.set("a.0", 2);
  c.set("b.c", "1");
  EXPECT_EQ(json_text(c.json()), R"({"a":[2],"n":3,"b":{"c":"1"}})");
  EXPECT_THAT(message_of<ConfigError>([&] { c.set("n.x", 1); }),
              HasSubstr("n.x: $.n is 3, which holds no \"x\""));
}

TEST(ConfigSet, RefusesWhatItCannotMean) {
  EXPECT_THAT(set_error("{}", "a"), HasSubstr("PATH=VALUE"));
  EXPECT_THAT(set_error("{}", "=1"), HasSubstr("PATH=VALUE"));
  EXPECT_THAT(set_error("{}", "a="), HasSubstr("the value is empty"));
  EXPECT_THAT(set_error("{}", "a..b=1"), HasSubstr("empty"));
  EXPECT_THAT(set_error("{}", ".a=1"), HasSubstr("empty"));
  EXPECT_THAT(set_error("{}", "a.=1"), HasSubstr("empty"));
  EXPECT_THAT(set_error(R"({"a": 3})", "a.b=1"), HasSubstr("$.a is 3"));
  EXPECT_THAT(set_error(R"({"a": [1]})", "a.2=1"), HasSubstr("not an index in 0..1"));
  EXPECT_THAT(set_error(R"({"a": [1]})", "a.x=1"), HasSubstr("not an index in 0..1"));
  EXPECT_THAT(set_error(R"({"a": [1]})", "a.99999999999999999999=1"), HasSubstr("not an index"));
  EXPECT_THAT(set_error("{}", "a={\"b\": 1, \"b\": 2}"), HasSubstr("duplicate key \"b\""));
  EXPECT_THAT(set_error("{}", "a=\xff"), HasSubstr("UTF-8"));
  std::string deep = "a";
  for (int i = 0; i < 1000; ++i) deep += ".a";
  EXPECT_THAT(set_error("{}", deep + "=1"), HasSubstr("deeper"));
}

TEST(ConfigSet, ACopyIsIndependentAndAFailureChangesNothing) {
  Config a = Config::parse(R"({"x": 1})", "");
  const Config b = a;
  a.set("x=2");
  EXPECT_EQ(json_text(b.json()), R"({"x":1})");
  EXPECT_THROW(a.set("new.y.=1"), ConfigError);
  EXPECT_EQ(json_text(a.json()), R"({"x":2})");
}

TEST(Config, MergeFollowsRfc7386) {
  Config c = Config::parse(R"({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 5})", "");
  const Config before = c;
  c.merge(Config::parse(R"({"a": {"b": null, "x": {"y": null, "z": 1}}, "d": [3], "f": 6})", ""));
  EXPECT_EQ(c.json(), parse_json(R"({"a": {"c": 2, "x": {"z": 1}}, "d": [3], "e": 5, "f": 6})"));
  EXPECT_EQ(before.at("d").json().size(), 2u);
}

TEST(Config, DifferencesNamePaths) {
  const Json before = parse_json(R"({"a": 1, "b": {"c": [1, 2], "gone": true}, "same": {"x": 0}})");
  const Json after =
      parse_json(R"({"b": {"c": [1, 3], "odd key": null}, "a": "1", "same": {"x": 0}})");
  EXPECT_THAT(config_differences(before, after),
              ElementsAre("$.a: 1 -> \"1\"", "$.b.c: [1,2] -> [1,3]", "$.b.gone: true -> (absent)",
                          "$.b[\"odd key\"]: (absent) -> null"));
  EXPECT_TRUE(config_differences(before, before).empty());
}

TEST(NearestName, FindsTyposAndLeavesOtherWordsAlone) {
  const std::vector<std::string> names = {"n_layer", "n_embd", "dropout", "learning_rate", "k"};
  EXPECT_EQ(nearest_name("n_layers", names), "n_layer");
  EXPECT_EQ(nearest_name("N_Layer", names), "n_layer");
  EXPECT_EQ(nearest_name("n_lyaer", names), "n_layer");  // two neighbours swapped
  EXPECT_EQ(nearest_name("nembd", names), "n_embd");
  EXPECT_EQ(nearest_name("drop_out", names), "dropout");
  EXPECT_EQ(nearest_name("learningrate", names), "learning_rate");
  EXPECT_EQ(nearest_name("batch_size", names), std::nullopt);
  EXPECT_EQ(nearest_name("x", names), std::nullopt);
  EXPECT_EQ(nearest_name("", names), std::nullopt);
  EXPECT_EQ(nearest_name("n_layer", {}), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'n'), names), std::nullopt);
  EXPECT_EQ(nearest_name("abcd", {"abxx", "abcx"}), "abcx");  // the smaller distance wins
}

TEST(Config, CommentsAndTrailingCommasAreReadLenientlyOrNamed) {
  const TemporaryDirectory directory;
  const std::string file = directory / "c.json";
  write_plainly(file,
                "{\n  // a comment, \"quoted\"\n  \"a\": [1, 2, /* two */],\n  \"b\": \"// no, "
                "\\\"}\",\n}\n");
  EXPECT_THAT(message_of<ConfigError>([&] { Config::from_file(file); }), HasSubstr("--lenient"));
  const Json read = Config::from_file(file, true).json();
  EXPECT_EQ(read.dump(), R"({"a":[1,2],"b":"// no, \"}"})");
  // What is broken otherwise stays an error, on the same line, and is promised nothing.
  write_plainly(file, "{ // c\n  \"a\": }");
  for (const bool lenient : {false, true}) {
    const std::string message = message_of<ConfigError>([&] { Config::from_file(file, lenient); });
    EXPECT_EQ(message.find("--lenient"), std::string::npos) << message;
  }
  EXPECT_THAT(message_of<ConfigError>([&] { Config::from_file(file, true); }), HasSubstr("line 2"));
  EXPECT_THROW(Config::from_file(directory / "none", true), ConfigError);
}

}  // namespace
}  // namespace reverie
