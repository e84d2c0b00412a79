// Equations in solutions of word problems.

#include "datasets/problems/equations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reverie {
namespace {

using ::testing::ElementsAre;

TEST(Equations, NumbersAreReadAsTheyAreWritten) {
  EXPECT_EQ(number_of_text("48"), 48);
  EXPECT_EQ(number_of_text("-4.50"), -4.5);
  EXPECT_EQ(number_of_text(".5"), 0.5);
  EXPECT_EQ(number_of_text("5."), 5);
  for (const char* text : {"", ".", "-", "--5", "1,200", "1e5", "1.2.3", " 5", "5 ", "0x5", "inf"})
    EXPECT_FALSE(number_of_text(text)) << text;
}

TEST(Equations, ExpressionsHaveTheValueThatPythonGives) {
  const std::pair<const char*, double> values[] = {
      {"7", 7},          {"2+3*4", 14},  {"(2+3)*4", 20}, {"10-3-2", 5}, {"8/2/2", 2},
      {"560//10", 56},   {"-7//2", -4},  {"71+-3", 68},   {"-18/-2", 9}, {"(-17)+43", 26},
      {"2*20*.01", 0.4}, {"3*(2/3)", 2}, {"((1))", 1}};
  for (const auto& [text, value] : values) {
    const auto got = value_of_expression(text);
    ASSERT_TRUE(got) << text;
    EXPECT_NEAR(*got, value, 1e-12) << text;
  }
  for (const char* text : {"", "2-", "(2", "2)", "3x", "2**3", "2 3", "1/0", "x+1", "20%", "()"})
    EXPECT_FALSE(value_of_expression(text)) << text;
  EXPECT_FALSE(value_of_expression(std::string(100000, '(')));
}

TEST(Equations, AreRightWrongOrMalformed) {
  for (const char* text : {"48/2=24", "-47=-47", "10000/100000=.10", "0.3*600=180"})
    EXPECT_EQ(state_of_equation(text), EquationState::right) << text;
  for (const char* text : {"48/2=25", "1/3=0.33", "2+2=-4"})
    EXPECT_EQ(state_of_equation(text), EquationState::wrong) << text;
  for (const char* text : {"48/2", "48/2=", "=24", "1+1=2=2", "x=3", "3=x", "2+2=$4"})
    EXPECT_EQ(state_of_equation(text), EquationState::malformed) << text;
}

TEST(Equations, AnnotationsStandInPairsOfBrackets) {
  const Annotations two = annotations_of("Half is 48/2 = <<48/2=24>>24, and <<24 + 1 = 25>>25.");
  EXPECT_FALSE(two.malformed);
  EXPECT_THAT(two.equations, ElementsAre("48/2=24", "24+1=25"));
  EXPECT_TRUE(annotations_of("no equation").equations.empty());
  EXPECT_FALSE(annotations_of("no equation").malformed);
  for (const char* line : {"<<1+1=2", "1+1=2>>", ">>1+1=2<<", "<<1=1>> <<2=2"})
    EXPECT_TRUE(annotations_of(line).malformed) << line;
}

}  // namespace
}  // namespace reverie
