// Components by name: making them, and what is said when a name is unknown or taken.

#include "core/json.h"
#include "core/registry.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/fixtures.h"
#include "core/gadgets.h"

namespace reverie {

template <>
GadgetRegistry& GadgetRegistry::instance() {
  static GadgetRegistry registry("gadget");
  return registry;
}

namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct WheelOptions : Fieldset {
  int64_t spokes = 8;
  void fields(Fields& f) override { f.integer("spokes", spokes, kPositive, "how many"); }
};
struct Wheel : Gadget {
  Wheel(const WheelOptions& o, int scale) : spokes(o.spokes * scale) {}
  std::string describe() const override { return fmt::format("wheel {}", spokes); }
  int64_t spokes;
};
struct NoOptions : Fieldset {
  void fields(Fields&) override {}
};
struct Spring : Gadget {
  Spring(const NoOptions&, int) {}
  std::string describe() const override { return "spring"; }
};

GadgetRegistry two_gadgets() {
  GadgetRegistry registry("gadget");
  registry.add<Wheel, WheelOptions>("wheel", "turns");
  registry.add<Spring, NoOptions>("spring", "bounces");
  return registry;
}

TEST(Registry, MakesAComponentFromItsOptions) {
  const GadgetRegistry registry = two_gadgets();
  EXPECT_THAT(registry.names(), ElementsAre("spring", "wheel"));
  const Component given =
      resolve_component(registry, Config::parse(R"({"type": "wheel", "spokes": 5})", "x.json"));
  EXPECT_EQ(registry.make(given, 3)->describe(), "wheel 15");
  const Component bare = resolve_component(registry, Config::parse(R"({"type": "wheel"})", ""));
  EXPECT_EQ(registry.make(bare, 1)->describe(), "wheel 8");
  EXPECT_EQ(*bare.resolved, parse_json(R"({"type": "wheel", "spokes": 8})"));
  EXPECT_EQ(component_options<WheelOptions>(bare).spokes, 8);
}

TEST(Registry, AnUnknownNameListsTheKnownOnes) {
  const GadgetRegistry registry = two_gadgets();
  EXPECT_THAT(message_of<ConfigError>([&] { registry.entry("weel", "$.part"); }),
              AllOf(HasSubstr("$.part"), HasSubstr("unknown gadget \"weel\""),
                    HasSubstr("did you mean \"wheel\"?"), HasSubstr("spring, wheel")));
  EXPECT_THAT(message_of<ConfigError>([&] { registry.entry("locomotive", "$.part"); }),
              AllOf(HasSubstr("spring, wheel"), Not(HasSubstr("did you mean"))));
  Component unknown;
  unknown.type = "weel";
  EXPECT_THROW(registry.make(unknown, 1), ConfigError);
}

TEST(Registry, ADuplicateNamesBothPlacesAndKeepsTheFirst) {
  GadgetRegistry registry = two_gadgets();
  const std::string message =
      message_of<InternalError>([&] { registry.add<Spring, NoOptions>("wheel", "again"); });
  EXPECT_THAT(message, AllOf(HasSubstr("gadget \"wheel\""), HasSubstr("twice")));
  const size_t first = message.find("test_registry.cpp:");
  ASSERT_NE(first, std::string::npos);
  EXPECT_NE(message.find("test_registry.cpp:", first + 1), std::string::npos) << message;
  const Component wheel = resolve_component(registry, Config::parse(R"({"type": "wheel"})", ""));
  EXPECT_EQ(registry.make(wheel, 1)->describe(), "wheel 8");
}

TEST(Registry, MakingAnUnresolvedComponentIsOurBug) {
  const GadgetRegistry registry = two_gadgets();
  Component component;
  component.type = "wheel";
  EXPECT_THROW(registry.make(component, 1), InternalError);
}

}  // namespace
}  // namespace reverie
