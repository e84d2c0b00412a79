// Reading and writing options, and what they say of themselves: schema and help.

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "core/error.h"
#include "core/fixtures.h"
#include "core/json.h"
#include "core/named.h"
#include "core/registry.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct Part {
  virtual ~Part() = default;
};
using PartRegistry = Registry<Part>;

const PartRegistry& parts();

struct SlotOptions : Fieldset {
  std::optional<int64_t> num_slots;
  double decay = 0.5;
  void fields(Fields& f) override {
    f.integer_or_auto("num_slots", num_slots, {1, 64}, "how many slots");
    f.number("decay", decay, {0.0, 1.0}, "per step");
  }
};
struct Slots : Part {
  explicit Slots(const SlotOptions&) {}
};
struct StackOptions : Fieldset {  // holds components of its own kind
  Component inner;
  int64_t depth = 0;
  void fields(Fields& f) override {
    f.component("inner", inner, parts(), true, "what it repeats");
    f.integer("depth", depth, kPositive, "how often");
  }
};
struct Stack : Part {
  explicit Stack(const StackOptions&) {}
};

const PartRegistry& parts() {
  static const PartRegistry registry = [] {
    PartRegistry r("memory part");
    r.add<Slots, SlotOptions>("slots", "a row of slots");
    r.add<Stack, StackOptions>("stack", "another part, repeated");
    return r;
  }();
  return registry;
}

struct BlockOptions : Fieldset {
  int64_t n_layer = 12;
  bool bias = false;
  void fields(Fields& f) override {
    f.integer("n_layer", n_layer, {1, 100}, "number of blocks");
    f.boolean("bias", bias, "add biases");
  }
};
struct Options : Fieldset {
  int64_t vocab_size = 0;
  std::optional<int64_t> slots = 3;
  double rate = 1e-3;
  std::string mode = "fast";
  std::string name;
  std::vector<std::string> plugins;
  std::vector<int64_t> sizes = {1, 2};
  BlockOptions model;
  Component memory;
  Component part{"slots", nullptr};
  void fields(Fields& f) override {
    f.integer("vocab_size", vocab_size, kPositive,
              "tokens");  // its default is out of range: required
    f.integer_or_auto("slots", slots, kPositive, "slots");
    f.number("rate", rate, {0.0, 1.0}, "per step");
    f.text("mode", mode, {"fast", "exact"}, "which way");
    f.text("name", name, {}, "free text");
    f.texts("plugins", plugins, "libraries");
    f.integers("sizes", sizes, {0, 9}, "sizes");
    f.object("model", model, "the model");
    f.component("memory", memory, parts(), true, "memory, if any");
    f.component("part", part, parts(), false, "a part with a default");
  }
};

Options read(const std::string& text) {
  Options o;
  read_config(Config::parse(text, "c.json"), o);
  return o;
}
// Reads {"vocab_size": 5, REST}.
std::string error(const std::string& rest) {
  return message_of<ConfigError>([&] { read("{\"vocab_size\": 5, " + rest + "}"); });
}

TEST(Fieldset, ReadsEveryKindOfField) {
  const Options o =
      read(R"({"vocab_size": 65, "slots": "auto", "rate": 1, "mode": "exact", "name": "é",
      "plugins": ["a.so"], "sizes": [], "model": {"n_layer": 3, "bias": true},
      "memory": {"type": "slots", "num_slots": 7}, "part": {"type": "stack", "depth": 2}})");
  EXPECT_EQ(o.vocab_size, 65);
  EXPECT_FALSE(o.slots.has_value());
  EXPECT_EQ(o.rate, 1.0);
  EXPECT_EQ(o.mode, "exact");
  EXPECT_EQ(o.name, "é");
  EXPECT_THAT(o.plugins, ElementsAre("a.so"));
  EXPECT_TRUE(o.sizes.empty());
  EXPECT_EQ(o.model.n_layer, 3);
  EXPECT_TRUE(o.model.bias);
  EXPECT_EQ(o.memory.type, "slots");
  EXPECT_EQ(o.memory.path, "$.memory");
  EXPECT_EQ(o.memory.resolved->dump(), R"({"type":"slots","num_slots":7,"decay":0.5})");
  EXPECT_EQ(o.part.resolved->dump(), R"({"type":"stack","inner":null,"depth":2})");
}

// ---- values by names of the user's choice ------------------------------------------------------
struct Cell : Fieldset {
  double rate = 0.5;
  void fields(Fields& f) override { f.number("rate", rate, {0.0, 1.0}, "per step"); }
};
struct NamedOptions : Fieldset {
  std::string title;
  std::vector<double> rates;
  Json patch;
  Named<Cell> cells;
  Named<Named<std::vector<int64_t>>> sizes;
  void fields(Fields& f) override {
    f.required().text("title", title, {}, "what it is called");
    f.required().numbers("rates", rates, {0.0, 1.0}, "tried");
    f.patch("patch", patch, "merged later");
    describe_named(f, "cells", cells, "by name",
                   [](Fields& inner, const std::string& name, Cell& cell) {
                     inner.object(name, cell, "one");
                   });
    describe_named(f, "sizes", sizes, "by name and name",
                   [](Fields& outer, const std::string& name, Named<std::vector<int64_t>>& value) {
                     describe_named(
                         outer, name, value, "by name",
                         [](Fields& inner, const std::string& key, std::vector<int64_t>& list) {
                           inner.integers(key, list, {0, 9}, "sizes");
                         });
                   });
  }
};
NamedOptions read_named(const std::string& rest) {
  NamedOptions o;
  o.cells.prototype.rate = 0.25;
  read_config(Config::parse(R"({"title": "t", "rates": [0.5, 1])" + rest + "}", "n.json"), o);
  return o;
}
std::string named_error(const std::string& rest) {
  return message_of<ConfigError>([&] { read_named(rest); });
}

TEST(NamedFields, AreReadInTheOrderOfTheFile) {
  NamedOptions o = read_named(
      R"(, "patch": {"a": {"b": 1}}, "cells": {"z": {}, "a": {"rate": 1}}, "sizes": {"x": {"64": [1, 2]}})");
  EXPECT_THAT(o.rates, ElementsAre(0.5, 1.0));
  EXPECT_EQ(o.patch["a"]["b"], 1);
  EXPECT_THAT(o.cells.names(), ElementsAre("z", "a"));
  EXPECT_EQ(o.cells.at("z", "$.cells").rate, 0.25) << "as the prototype";
  EXPECT_EQ(o.cells.find("a")->rate, 1.0);
  EXPECT_EQ(o.cells.find("b"), nullptr);
  EXPECT_THAT(message_of<ConfigError>([&] { o.cells.at("zz", "$.cells"); }),
              HasSubstr("missing key \"zz\" at $.cells; did you mean \"z\"?"));
  EXPECT_THAT(*o.sizes.find("x")->find("64"), ElementsAre(1, 2));
  NamedOptions again;
  read_config(Config(write_config(o), "$"), again);
  EXPECT_EQ(write_config(again).dump(), write_config(o).dump());
  EXPECT_TRUE(read_named("").patch.is_null());
}

TEST(NamedFields, ErrorsSayWhere) {
  EXPECT_THAT(named_error(R"(, "cells": {"a": {"rat": 1}})"),
              HasSubstr("n.json: unknown key \"rat\" at $.cells.a; did you mean \"rate\"?"));
  EXPECT_THAT(named_error(R"(, "cells": [1])"), HasSubstr("$.cells must be an object"));
  EXPECT_THAT(named_error(R"(, "cells": {"a": {"rate": 2}, "b": {"rate": "x"}})"),
              AllOf(HasSubstr("$.cells.a.rate must be"), HasSubstr("$.cells.b.rate must be")));
  EXPECT_THAT(named_error(R"(, "sizes": {"x": {"64": [1, 12]}})"),
              HasSubstr("$.sizes.x.64[1] must be an integer in 0..9, got 12"));
  EXPECT_THAT(named_error(R"(, "patch": 3)"), HasSubstr("$.patch must be an object, got 3"));
  EXPECT_THAT(message_of<ConfigError>([] {
                NamedOptions o;
                read_config(Config::parse(R"({"title": "", "rates": [2]})", ""), o);
              }),
              AllOf(HasSubstr("$.title is empty"), HasSubstr("$.rates[0] must be")));
  EXPECT_THAT(message_of<ConfigError>([] {
                NamedOptions o;
                read_config(Config(), o);
              }),
              AllOf(HasSubstr("missing key \"title\""), HasSubstr("missing key \"rates\"")));
}

TEST(NamedFields, SchemaAndHelpDescribeAnyOfThem) {
  NamedOptions o;
  const Json schema = config_schema(o);
  EXPECT_EQ(schema["required"], Json({"title", "rates"}));
  EXPECT_EQ(schema["properties"]["rates"]["minItems"], 1);
  EXPECT_EQ(schema["properties"]["cells"]["additionalProperties"]["properties"]["rate"]["maximum"],
            1.0);
  EXPECT_EQ(schema["properties"]["sizes"]["additionalProperties"]["additionalProperties"]["items"]
                  ["type"],
            "integer");
  EXPECT_THAT(config_help(o),
              AllOf(HasSubstr("title  what it is called (a string, must be given)"),
                    HasSubstr("cells  by name (an object)\n  NAME  one (an object)\n    rate")));
}

TEST(Fieldset, AComponentKeepsItsOptions) {
  const Options o = read(R"({"vocab_size": 5, "memory": {"type": "stack", "depth": 2,
      "inner": {"type": "slots", "decay": 0.25}}})");
  const auto& stack = component_options<StackOptions>(o.memory);
  EXPECT_EQ(stack.depth, 2);
  EXPECT_EQ(component_options<SlotOptions>(stack.inner).decay, 0.25);
  EXPECT_THROW(component_options<SlotOptions>(o.memory), InternalError);
  EXPECT_THROW(component_options(Component{"slots", nullptr}), InternalError);
}

TEST(Fieldset, KeysNotGivenKeepTheirDefaults) {
  const Options o = read(R"({"vocab_size": 5})");
  EXPECT_EQ(o.slots, 3);
  EXPECT_EQ(o.rate, 1e-3);
  EXPECT_EQ(o.model.n_layer, 12);
  EXPECT_FALSE(o.memory.given());
  EXPECT_EQ(o.part.resolved->dump(), R"({"type":"slots","num_slots":"auto","decay":0.5})");
  EXPECT_FALSE(read(R"({"vocab_size": 5, "memory": null})").memory.given());
}

TEST(Fieldset, UnknownKeysNamePathNearestAndKnownKeys) {
  EXPECT_EQ(error(R"("model": {"n_layers": 3})"),
            "c.json: unknown key \"n_layers\" at $.model; did you mean \"n_layer\"? Known keys: "
            "n_layer, bias");
  EXPECT_THAT(error(R"("zzz": 3)"),
              AllOf(HasSubstr("unknown key \"zzz\" at $."), Not(HasSubstr("did you mean")),
                    HasSubstr("Known keys: vocab_size, slots")));
  EXPECT_THAT(error(R"("memory": {"type": "slots", "decya": 0.5})"),
              AllOf(HasSubstr("unknown key \"decya\" at $.memory;"), HasSubstr("\"decay\"?")));
  EXPECT_THAT(
      error(R"("memory": {"type": "stack", "depth": 1, "inner": {"type": "slots", "depth": 1}})"),
      HasSubstr("unknown key \"depth\" at $.memory.inner"));
  // A misspelt required key is told as such, not as missing.
  EXPECT_THAT(message_of<ConfigError>([] { read(R"({"vocabsize": 5})"); }),
              AllOf(HasSubstr("unknown key \"vocabsize\""), HasSubstr("\"vocab_size\"?")));
  EXPECT_THAT(error(R"("type": "x")"), HasSubstr("unknown key \"type\""));
}

TEST(Fieldset, MistypedValuesAreRefused) {
  EXPECT_THAT(error(R"("model": {"n_layer": 3.5})"),
              HasSubstr("c.json: $.model.n_layer must be an integer in 1..100, got 3.5"));
  EXPECT_THAT(error(R"("model": {"n_layer": "3"})"), HasSubstr("got \"3\""));
  EXPECT_THAT(error(R"("model": {"n_layer": true})"), HasSubstr("must be an integer"));
  EXPECT_THAT(error(R"("model": {"n_layer": null})"), HasSubstr("must be an integer"));
  EXPECT_THAT(error(R"("model": {"bias": 1})"),
              HasSubstr("$.model.bias must be true or false, got 1"));
  EXPECT_THAT(error(R"("model": {"bias": "true"})"), HasSubstr("must be true or false"));
  EXPECT_THAT(error(R"("model": [1])"), HasSubstr("$.model must be an object"));
  EXPECT_THAT(error(R"("model": null)"), HasSubstr("$.model must be an object"));
  EXPECT_THAT(error(R"("rate": "0.1")"), HasSubstr("$.rate must be a finite number in 0..1"));
  EXPECT_THAT(error(R"("slots": "automatic")"), HasSubstr("or \"auto\", got \"automatic\""));
  EXPECT_THAT(error(R"("name": 3)"), HasSubstr("$.name must be a string, got 3"));
  EXPECT_THAT(error(R"("mode": "fats")"), AllOf(HasSubstr("$.mode cannot be \"fats\""),
                                                HasSubstr("\"fast\"?"), HasSubstr("fast, exact")));
  EXPECT_THAT(error(R"("plugins": "a.so")"), HasSubstr("$.plugins must be an array of strings"));
  EXPECT_THAT(error(R"("plugins": ["a.so", 2])"),
              HasSubstr("$.plugins[1] must be a string, got 2"));
  EXPECT_THAT(error(R"("sizes": [1, 2.5])"), HasSubstr("$.sizes[1] must be an integer in 0..9"));
  EXPECT_THAT(message_of<ConfigError>([] { read("[]"); }), HasSubstr("$ must be an object"));
}

TEST(Fieldset, ValuesOutOfRangeAreRefused) {
  EXPECT_THAT(error(R"("model": {"n_layer": 0})"), HasSubstr("in 1..100, got 0"));
  EXPECT_THAT(error(R"("model": {"n_layer": 101})"), HasSubstr("in 1..100, got 101"));
  EXPECT_THAT(error(R"("model": {"n_layer": 18446744073709551615})"),
              HasSubstr("must be an integer"));
  EXPECT_THAT(error(R"("model": {"n_layer": 99999999999999999999999})"),
              HasSubstr("must be an integer"));
  EXPECT_THAT(error(R"("rate": 1.5)"), HasSubstr("in 0..1, got 1.5"));
  EXPECT_THAT(error(R"("rate": -1e-9)"), HasSubstr("in 0..1"));
  EXPECT_THAT(error(R"("slots": 0)"), HasSubstr("or \"auto\", got 0"));
  EXPECT_THAT(error(R"("sizes": [10])"), HasSubstr("$.sizes[0]"));
  EXPECT_THAT(error(R"("memory": {"type": "slots", "num_slots": 65})"),
              HasSubstr("$.memory.num_slots must be an integer in 1..64 or \"auto\", got 65"));
}

TEST(Fieldset, MissingRequiredFieldsAreNamed) {
  EXPECT_THAT(message_of<ConfigError>([] { read("{}"); }),
              HasSubstr("c.json: missing key \"vocab_size\" at $;"));
  EXPECT_THAT(error(R"("memory": {"type": "stack"})"),
              HasSubstr("missing key \"depth\" at $.memory"));
  struct Outer : Fieldset {
    Component part;
    void fields(Fields& f) override { f.component("part", part, parts(), false, ""); }
  } outer;
  EXPECT_THAT(message_of<ConfigError>([&] { read_config(Config(), outer); }),
              AllOf(HasSubstr("missing key \"part\""), HasSubstr("memory part"),
                    HasSubstr("slots, stack")));
}

TEST(Fieldset, BadComponentsAreRefused) {
  EXPECT_THAT(error(R"("memory": "slots")"),
              AllOf(HasSubstr("$.memory must be an object {\"type\": NAME, ...}"),
                    HasSubstr("slots, stack")));
  EXPECT_THAT(error(R"("memory": {})"), HasSubstr("got no \"type\""));
  EXPECT_THAT(error(R"("memory": {"type": 3})"), HasSubstr("got \"type\": 3"));
  EXPECT_THAT(error(R"("memory": {"type": "slot"})"),
              AllOf(HasSubstr("c.json: $.memory.type: unknown memory part \"slot\""),
                    HasSubstr("\"slots\"?")));
  EXPECT_THAT(error(R"("part": null)"), HasSubstr("$.part must be an object"));
}

TEST(Fieldset, AListOfComponentsHoldsOneOrMore) {
  struct List : Fieldset {
    std::vector<Component> inner;
    void fields(Fields& f) override { f.components("inner", inner, parts(), "what it is made of"); }
  } list;
  const auto read_list = [&](const char* text) {
    read_config(Config::parse(text, "c.json"), list);
  };
  const auto refusal = [&](const char* text) {
    return message_of<ConfigError>([&] { read_list(text); });
  };
  read_list(R"({"inner": [{"type": "slots"}, {"type": "stack", "depth": 2}]})");
  ASSERT_EQ(list.inner.size(), 2u);
  EXPECT_EQ(list.inner[1].type, "stack");
  EXPECT_EQ(list.inner[1].path, "$.inner[1]");
  const Json written = write_config(list);
  EXPECT_EQ(json_text(written["inner"][0]), R"({"type":"slots","num_slots":"auto","decay":0.5})");
  List again;
  read_config(Config(written, "$"), again);
  EXPECT_EQ(json_text(write_config(again)), json_text(written));

  for (const char* none : {"{}", R"({"inner": []})", R"({"inner": {"type": "slots"}})"})
    EXPECT_THAT(message_of<ConfigError>([&] {
                  List fresh;
                  read_config(Config::parse(none, "c.json"), fresh);
                }),
                AllOf(HasSubstr("inner"), HasSubstr("an array of memory parts, one or more")));
  EXPECT_THAT(refusal(R"({"inner": [{"type": "slots"}, {"type": "slots", "decya": 1}]})"),
              HasSubstr("unknown key \"decya\" at $.inner[1]"));
  List fresh;
  const Json schema = config_schema(fresh);
  EXPECT_EQ(schema["required"], Json::array({"inner"}));
  EXPECT_EQ(schema["properties"]["inner"]["minItems"], 1);
  EXPECT_EQ(schema["properties"]["inner"]["items"]["oneOf"][1]["$ref"],
            "#/$defs/memory_part.stack");
  EXPECT_THAT(config_help(fresh), HasSubstr("inner  what it is made of (an array of memory parts, "
                                            "must be given)\n  \"type\": \"slots\""));
}

TEST(Fieldset, AFieldDescribedTwiceIsOurBug) {
  struct Twice : Fieldset {
    bool a = false;
    void fields(Fields& f) override {
      f.boolean("a", a, "");
      f.boolean("a", a, "");
    }
  } twice;
  EXPECT_THROW(read_config(Config(), twice), InternalError);
}

TEST(Fieldset, WhatIsWrittenReadsBackTheSame) {
  for (
      const char* text :
      {R"({"vocab_size": 5})",
       R"({"vocab_size": 65, "slots": "auto", "rate": 0.1234567890123, "mode": "exact", "name": "a\"b",
                               "plugins": ["a.so", "b"], "sizes": [9], "model": {"n_layer": 3},
                               "memory": {"type": "stack", "depth": 1, "inner": {"type": "slots"}}})"}) {
    Options first = read(text);
    const Json written = write_config(first);
    Options second;
    read_config(Config(written, "$"), second);
    EXPECT_EQ(json_text(write_config(second)), json_text(written));
    EXPECT_EQ(second.rate, first.rate);
  }
  Options o = read(R"({"vocab_size": 5})");
  EXPECT_EQ(
      json_text(write_config(o)),
      R"({"vocab_size":5,"slots":3,"rate":0.001,"mode":"fast","name":"","plugins":[],"sizes":[1,2],)"
      R"("model":{"n_layer":12,"bias":false},"memory":null,)"
      R"("part":{"type":"slots","num_slots":"auto","decay":0.5}})");
  Options untouched;  // never read: a default component is resolved all the same
  EXPECT_EQ(write_config(untouched)["part"]["decay"], 0.5);
}

TEST(Fieldset, SchemaSaysWhatTheReaderChecks) {
  Options o;
  const Json s = config_schema(o);
  EXPECT_EQ(s["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(s["additionalProperties"], false);
  EXPECT_EQ(s["required"], Json::array({"vocab_size"}));
  const Json& p = s["properties"];
  EXPECT_EQ(p["vocab_size"]["minimum"], 1);
  EXPECT_FALSE(p["vocab_size"].contains("default"));
  EXPECT_EQ(
      json_text(p["rate"]),
      R"({"type":"number","minimum":0.0,"maximum":1.0,"default":0.001,"description":"per step"})");
  EXPECT_EQ(p["mode"]["enum"], Json::array({"fast", "exact"}));
  EXPECT_EQ(p["slots"]["oneOf"][1]["const"], "auto");
  EXPECT_EQ(p["sizes"]["items"]["maximum"], 9);
  EXPECT_EQ(p["model"]["properties"]["n_layer"]["default"], 12);
  EXPECT_EQ(p["model"]["additionalProperties"], false);
  EXPECT_EQ(p["memory"]["oneOf"], parse_json(R"([{"$ref": "#/$defs/memory_part.slots"},
                                                 {"$ref": "#/$defs/memory_part.stack"}, {"type": "null"}])"));
  EXPECT_EQ(p["part"]["oneOf"].size(), 2u);  // not optional: no null
  const Json& stack = s["$defs"]["memory_part.stack"];
  EXPECT_EQ(stack["properties"]["type"]["const"], "stack");
  EXPECT_EQ(stack["required"], Json::array({"type", "depth"}));
  EXPECT_EQ(stack["properties"]["inner"]["oneOf"][1]["$ref"], "#/$defs/memory_part.stack");
  EXPECT_EQ(stack["description"], "another part, repeated");
}

TEST(Fieldset, HelpHasALineForEachField) {
  Options o;
  const std::string help = config_help(o);
  EXPECT_THAT(help, HasSubstr("vocab_size  tokens (an integer >= 1, must be given)\n"));
  EXPECT_THAT(help, HasSubstr("rate  per step (a finite number in 0..1, default 0.001)\n"));
  EXPECT_THAT(help, HasSubstr("mode  which way (\"fast\" | \"exact\", default \"fast\")\n"));
  EXPECT_THAT(help, HasSubstr("model  the model (an object)\n  n_layer  number of blocks"));
  EXPECT_THAT(help,
              HasSubstr("  \"type\": \"slots\"  a row of slots\n    num_slots  how many slots"));
  EXPECT_THAT(help, HasSubstr("(the types are listed above)"));
}

struct PathOptions final : Fieldset {
  std::string text = "a", home = "~/b", variable = "$REVERIE_TEST_PLACE/${REVERIE_TEST_PLACE}x";
  std::string beside = "here", none = "", price = "5$";
  int64_t heads = 4, width = 8;
  void fields(Fields& f) override {
    f.text("text", text, {}, "no path");
    for (const auto& [name, path] : {std::pair{"home", &home},
                                     {"variable", &variable},
                                     {"beside", &beside},
                                     {"none", &none},
                                     {"price", &price}})
      f.path(name, *path, "a path");
    f.integer("heads", heads, {1, 100}, "heads");
    f.integer("width", width, {1, 100}, "width");
    f.rule(width % heads == 0, fmt::format("width {} is no multiple of heads {}", width, heads));
    f.rule(heads != 3, "heads cannot be 3");
  }
};

TEST(Fieldset, PathsBeginAtTheConfigsDirectory) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "here") << "";
  ::setenv("REVERIE_TEST_PLACE", "/somewhere", 1);
  PathOptions o;
  read_config(Config(), o);
  EXPECT_EQ(o.home, "~/b") << "reading leaves them as they are written";
  resolve_paths(o, directory.path());
  EXPECT_EQ(o.text, "a");
  EXPECT_EQ(o.home, std::string(::getenv("HOME")) + "/b");
  EXPECT_EQ(o.variable, "/somewhere/somewherex");
  EXPECT_EQ(o.beside, directory / "here");
  EXPECT_EQ(o.none, "");
  EXPECT_EQ(o.price, directory / "5$");
  const Json once = write_config(o);
  resolve_paths(o, "/elsewhere");
  EXPECT_EQ(write_config(o), once) << "absolute ones stay";
  // What only the working directory has is taken from there.
  o.beside = std::filesystem::relative(directory / "here").string();
  resolve_paths(o, "/elsewhere");
  EXPECT_EQ(o.beside, directory / "here");
  o.variable = "$REVERIE_TEST_NOTHING/x";
  EXPECT_THAT(message_of<ConfigError>([&] { resolve_paths(o, "."); }),
              ::testing::HasSubstr("$REVERIE_TEST_NOTHING"));
}

TEST(Fieldset, SeveralErrorsComeInOneGo) {
  PathOptions o;
  const std::string message = message_of<ConfigError>(
      [&] { read_config(Config::parse(R"({"heads": 0, "widht": 3, "text": 1})", "c"), o); });
  EXPECT_THAT(message,
              ::testing::AllOf(::testing::HasSubstr("widht"), ::testing::HasSubstr("$.heads"),
                               ::testing::HasSubstr("$.text")));
  EXPECT_THAT(
      message_of<ConfigError>([&] { read_config(Config::parse(R"({"heads": 3})", "c"), o); }),
      ::testing::AllOf(::testing::HasSubstr("$: width 8 is no multiple of heads 3"),
                       ::testing::HasSubstr("$: heads cannot be 3")));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { read_config(Config::parse(R"({"heads": 3, "text": 1})", "c"), o); }),
              ::testing::Not(::testing::HasSubstr("heads")))
      << "rules speak of fields that were read";
}

TEST(Fieldset, ANumberWithoutAFractionIsAnInteger) {
  PathOptions o;
  read_config(Config::parse(R"({"heads": 1e1, "width": 20.0})", "c"), o);
  EXPECT_EQ(o.heads, 10);
  EXPECT_EQ(o.width, 20);
  for (const char* bad : {"1.5", "1e3", "1e300", "-1e300"})
    EXPECT_THROW(read_config(Config::parse(fmt::format(R"({{"heads": {}}})", bad), "c"), o),
                 ConfigError)
        << bad;
}

}  // namespace
}  // namespace reverie
