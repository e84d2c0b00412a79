#include "trainers/reports/markdown.h"

#include <gtest/gtest.h>

namespace reverie {
namespace {

TEST(Markdown, TextIsNoMarkupAndCommandsAreCopiedAsTheyAre) {
  EXPECT_EQ(escape_markdown("a_b|c"), "a\\_b\\|c");
  EXPECT_EQ(code_span("--set 'model.memory={\"mode\":\"causal_mean\"}'"),
            "`--set 'model.memory={\"mode\":\"causal_mean\"}'`");
  EXPECT_EQ(code_span("a `b`"), "`` a `b` ``");
  EXPECT_EQ(without_escapes(escape_markdown("a_b|c\\d")), "a_b|c\\d");
  EXPECT_EQ(code_span("two\nlines"), "`two lines`");
}

}  // namespace
}  // namespace reverie
