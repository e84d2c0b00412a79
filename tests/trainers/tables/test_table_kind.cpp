// Kinds of tables register themselves: this file adds one, and nothing else knows of it.

#include "trainers/tables/table_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "support/message_of.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

class EmptyKind final : public TableKind {
 public:
  explicit EmptyKind(const TableFile& table) : size_(table.preset.at("size").json()) {}
  std::vector<PlannedCell> cells() const override {
    return std::vector<PlannedCell>(size_t(size_));
  }
  void set_cell_values(const PlannedCell&, Config&) const override {}
  std::string plan(const std::vector<PlannedRun>&) const override { return ""; }
  std::vector<std::string> write(const std::vector<PlannedRun>&, int64_t) const override {
    return {};
  }

 private:
  int64_t size_;
};

const bool registered = TableKinds::instance().add<EmptyKind>("empty", {"colour"}, {"size"});

TableFile table_of(const Json& table, const Json& preset) {
  TableFile file;
  file.config = Config(table, "$");
  file.preset = Config(preset, "$.presets.smoke");
  return file;
}

TEST(TableKind, IsFoundByTheNameThatItRegistered) {
  const auto kind = make_table_kind(table_of({{"kind", "empty"}, {"colour", 1}}, {{"size", 3}}));
  EXPECT_EQ(kind->cells().size(), 3u);
}

TEST(TableKind, AnUnknownNameListsTheKnownOnes) {
  EXPECT_THAT(message_of<ConfigError>([] {
                make_table_kind(table_of({{"kind", "loses"}}, Json::object()));
              }),
              AllOf(HasSubstr("\"loses\""), HasSubstr("\"empty\""), HasSubstr("\"latent_effect\""),
                    HasSubstr("\"losses\""), HasSubstr("\"reasoning\""), HasSubstr("\"sweep\"")));
}

TEST(TableKind, KeysThatItDidNotNameAreRefused) {
  EXPECT_THAT(message_of<ConfigError>([] {
                make_table_kind(table_of({{"kind", "empty"}, {"block_sizes", 1}}, {{"size", 3}}));
              }),
              HasSubstr("$.block_sizes"));
  EXPECT_THAT(message_of<ConfigError>([] {
                make_table_kind(table_of({{"kind", "empty"}}, {{"size", 3}, {"sise", 3}}));
              }),
              AllOf(HasSubstr("$.presets.smoke.sise"), HasSubstr("\"size\"")));
}

TEST(TableKind, ANameThatIsTakenIsRefused) {
  EXPECT_THAT(
      message_of<InternalError>([] { TableKinds::instance().add<EmptyKind>("sweep", {}, {}); }),
      HasSubstr("\"sweep\""));
}

}  // namespace
}  // namespace reverie
