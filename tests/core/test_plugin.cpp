// Shared libraries that register gadgets (tests/core/plugins/*.cpp, each a library of its own).

#include "core/plugin.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/fixtures.h"
#include "core/gadgets.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kDirectory = testing::directory_of_binary() + "/core_plugins";

TEST(Plugin, LoadsOnceAndRegisters) {
  load_plugin("gadget.so", kDirectory);
  const Component given = resolve_component(
      GadgetRegistry::instance(), Config::parse(R"({"type": "plugin_gadget", "size": 4})", ""));
  EXPECT_EQ(GadgetRegistry::instance().make(given, 10)->describe(), "plugin gadget 40");
  EXPECT_THAT(loaded_plugins(), Contains(HasSubstr("gadget.so")));
  const size_t before = loaded_plugins().size();
  load_plugin("gadget.so", kDirectory);
  load_plugin(kDirectory + "/gadget.so", "elsewhere");  // an absolute path needs no directory
  load_plugin(kDirectory + "/../" + std::filesystem::path(kDirectory).filename().string() +
              "/gadget.so");
  EXPECT_EQ(loaded_plugins().size(), before);
}

TEST(Plugin, AMissingFileSaysWhereItWasLookedFor) {
  EXPECT_THAT(message_of<UserError>([] { load_plugin("sub/none.so", kDirectory); }),
              AllOf(HasSubstr("sub/none.so"), HasSubstr(kDirectory)));
  EXPECT_THAT(message_of<UserError>([] { load_plugin(kDirectory + "/none.so"); }),
              HasSubstr("does not exist"));
  EXPECT_THAT(message_of<UserError>([] { load_plugin("reverie_none.so", kDirectory); }),
              AllOf(HasSubstr("does not load"), HasSubstr("reverie_none.so")));
  EXPECT_THROW(load_plugin("", kDirectory), UserError);
}

TEST(Plugin, AFileThatIsNoLibraryIsRefused) {
  const TemporaryDirectory directory;
  write_plainly(directory / "text.so", "this is no library");
  EXPECT_THAT(message_of<UserError>([&] { load_plugin("text.so", directory.path()); }),
              AllOf(HasSubstr("text.so"), HasSubstr("does not load")));
}

TEST(Plugin, AStaticInitialiserThatThrowsIsRefusedAndTheProcessLives) {
  for (const char* file : {"throwing_initialiser.so", "throwing_number.so"})
    for (int again = 0; again < 2; ++again)
      EXPECT_THAT(message_of<ConfigError>([&] { load_plugin(file, kDirectory); }),
                  AllOf(HasSubstr(file), HasSubstr("static initialisers throws")));
  EXPECT_THAT(message_of<ConfigError>([] { load_plugin("throwing_initialiser.so", kDirectory); }),
              HasSubstr("no luck at start"));
  EXPECT_THAT(loaded_plugins(), Not(Contains(HasSubstr("throwing"))));
}

TEST(Plugin, ATruncatedLibraryIsRefusedAtEveryLength) {
  const TemporaryDirectory directory;
  load_plugin("gadget.so", kDirectory);  // what loads all the same registers its name again
  std::ifstream file(kDirectory + "/gadget.so", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (int eighths = 0; eighths < 8; ++eighths) {
    const std::string name = "cut" + std::to_string(eighths) + ".so";
    write_plainly(directory / name, whole.substr(0, whole.size() * size_t(eighths) / 8));
    EXPECT_THAT(message_of<ConfigError>([&] { load_plugin(name, directory.path()); }),
                HasSubstr(name));
  }
}

TEST(Plugin, ALibraryWithoutAVersionIsRefused) {
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(message_of<UserError>([] { load_plugin("no_version.so", kDirectory); }),
                AllOf(HasSubstr("reverie_plugin_api_version"), HasSubstr("REVERIE_PLUGIN()")));
}

TEST(Plugin, AnotherVersionIsRefusedBeforeItsCodeRuns) {
  EXPECT_THAT(message_of<UserError>([] { load_plugin("other_version.so", kDirectory); }),
              AllOf(HasSubstr(fmt::format("another plugin API version than {}", kPluginApiVersion)),
                    HasSubstr("rebuild")));
  EXPECT_THAT(GadgetRegistry::instance().names(), Not(Contains("from_other_version")));
  EXPECT_THAT(message_of<UserError>([] { load_plugin("says_other_version.so", kDirectory); }),
              AllOf(HasSubstr("built for plugin API version 999"), HasSubstr("rebuild")));
}

TEST(Plugin, ANameThatIsTakenIsRefused) {
  load_plugin("gadget.so", kDirectory);
  EXPECT_THAT(
      message_of<UserError>([] { load_plugin("duplicate.so", kDirectory); }),
      AllOf(HasSubstr("duplicate.so"), HasSubstr("gadget \"plugin_gadget\" is registered twice"),
            HasSubstr("gadget.cpp:"), HasSubstr("duplicate.cpp:")));
  const Component given = resolve_component(GadgetRegistry::instance(),
                                            Config::parse(R"({"type": "plugin_gadget"})", ""));
  EXPECT_EQ(GadgetRegistry::instance().make(given, 1)->describe(),
            "plugin gadget 2");  // the first stays
}

}  // namespace
}  // namespace reverie
