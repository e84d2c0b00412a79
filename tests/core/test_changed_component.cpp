// Changed copies of components: what they hold, and what their fields refuse.

#include "core/changed_component.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/fixtures.h"
#include "core/json.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Part {
  virtual ~Part() = default;
};
using PartRegistry = Registry<Part>;

struct RimOptions final : Fieldset {
  double width = 0.5;
  void fields(Fields& f) override { f.number("width", width, {0, 1}, "in metres"); }
};
struct WheelOptions final : Fieldset {
  int64_t spokes = 8;
  std::optional<int64_t> teeth;
  std::string tyre = "slick";
  std::vector<int64_t> sizes = {1, 2};
  RimOptions rim;
  void fields(Fields& f) override {
    f.integer("spokes", spokes, {1, 64}, "how many");
    f.integer_or_auto("teeth", teeth, kPositive, "of its gear");
    f.text("tyre", tyre, {"slick", "knobbly"}, "the tyre");
    f.integers("sizes", sizes, {0, 9}, "sizes");
    f.object("rim", rim, "the rim");
    f.rule(spokes % 2 == 0, fmt::format("spokes {} is odd", spokes));
  }
};
struct Wheel final : Part {
  explicit Wheel(const WheelOptions&) {}
};

const PartRegistry& parts() {
  static const PartRegistry registry = [] {
    PartRegistry r("part");
    r.add<Wheel, WheelOptions>("wheel", "turns");
    return r;
  }();
  return registry;
}
Component wheel(const std::string& rest) {
  return resolve_component(
      parts(), Config(parse_json(R"({"type": "wheel")" + rest + "}"), "$.part", "x.json"));
}
Component changed(const Component& from, const std::function<void(WheelOptions&)>& change) {
  return changed_component(
      parts(), from, [&](Fieldset& options) { change(dynamic_cast<WheelOptions&>(options)); });
}

TEST(ChangedComponent, IsWhatReadingTheChangedJsonWouldGive) {
  const Component before = wheel(R"(, "teeth": 3)");
  const Component after = changed(before, [](WheelOptions& o) {
    o.spokes = 10;
    o.rim.width = 0.25;
  });
  EXPECT_EQ(component_options<WheelOptions>(after).spokes, 10);
  EXPECT_EQ(after.resolved->dump(),
            wheel(R"(, "rim": {"width": 0.25}, "spokes": 10, "teeth": 3)").resolved->dump());
  EXPECT_EQ(after.path, "$.part");
  EXPECT_EQ(component_options<WheelOptions>(before).spokes, 8) << "the original stays as it is";
  EXPECT_EQ(*before.resolved, *wheel(R"(, "teeth": 3)").resolved);
}

TEST(ChangedComponent, IsCheckedAsIfItHadBeenRead) {
  const auto refusal = [](const std::function<void(WheelOptions&)>& change) {
    return message_of<ConfigError>([&] { changed(wheel(""), change); });
  };
  EXPECT_THAT(refusal([](auto& o) { o.spokes = 65; }),
              HasSubstr("$.part.spokes must be an integer in 1..64, got 65"));
  EXPECT_THAT(refusal([](auto& o) { o.teeth = 0; }), HasSubstr("$.part.teeth"));
  EXPECT_THAT(refusal([](auto& o) { o.tyre = "knobly"; }),
              AllOf(HasSubstr("$.part.tyre cannot be \"knobly\""), HasSubstr("\"knobbly\"?")));
  EXPECT_THAT(refusal([](auto& o) { o.sizes = {3, 10}; }), HasSubstr("$.part.sizes"));
  EXPECT_THAT(refusal([](auto& o) { o.rim.width = NAN; }), HasSubstr("$.part.rim.width"));
  EXPECT_THAT(refusal([](auto& o) { o.spokes = 7; }), HasSubstr("$.part: spokes 7 is odd"));
  EXPECT_THAT(refusal([](auto& o) { o.spokes = 65, o.sizes = {-1}; }),
              AllOf(HasSubstr("$.part.spokes"), HasSubstr("$.part.sizes"), Not(HasSubstr("odd"))));
}

TEST(ChangedComponent, OneThatWasNotResolvedIsAnInternalError) {
  EXPECT_THROW(changed_component(parts(), Component{"wheel", nullptr}, [](Fieldset&) {}),
               InternalError);
}

}  // namespace
}  // namespace reverie
