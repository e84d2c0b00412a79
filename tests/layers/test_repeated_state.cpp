// The state of a memory module as inputs and results of a function.

#include "layers/memory/repeated_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/variable.h"
#include "core/error.h"
#include "support/message_of.h"

namespace reverie {
namespace {

Variable number(double value) {
  return Variable(Tensor::full({1}, value, DType::f64));
}
double value_of(const MemoryState& state, const std::string& name) {
  return state.values.at(name).tensor().item();
}

TEST(RepeatedState, BeginsAnewAndGivesWhatChanged) {
  MemoryState before;
  before.values = {{"gone", number(1)}, {"kept", number(2)}, {"moved", number(3)}};
  before.counters = {{"rows", 5}};
  RepeatedState repeated(before);
  const std::vector<Variable> values = RepeatedState::values(before);
  ASSERT_EQ(values.size(), 3u);

  for (int call = 0; call < 2; ++call) {
    MemoryState own = repeated.begun(values);
    EXPECT_EQ(own.counters.at("rows"), 5);
    EXPECT_EQ(value_of(own, "moved"), 3);
    own.counters["rows"] += 2;
    own.values.erase("gone");
    own.values["moved"] = number(4);
    own.values["new"] = number(6);
    own.values["same"] = own.values["new"];
    own.values["result"] = number(7);
    own.values["asked_for"];  // and never given
    std::vector<Variable> results = {own.values["result"]};
    repeated.append_changes(own, values, results);
    // Each value once: the result, "moved" and "new".
    ASSERT_EQ(results.size(), 3u);

    const MemoryState after = repeated.ended(values, results);
    EXPECT_EQ(after.counters.at("rows"), 7);
    std::vector<std::string> names;
    for (const auto& [name, value] : after.values) names.push_back(name);
    EXPECT_THAT(names, ::testing::ElementsAre("kept", "moved", "new", "result", "same"));
    EXPECT_EQ(after.values.at("kept").impl(), before.values.at("kept").impl());
    EXPECT_EQ(value_of(after, "moved"), 4);
    EXPECT_EQ(after.values.at("same").impl(), after.values.at("new").impl());
    EXPECT_EQ(after.values.at("result").impl(), results[0].impl());
  }
  EXPECT_EQ(before.counters.at("rows"), 5);
  EXPECT_EQ(value_of(before, "moved"), 3);
}

// In backward, the input of a layer and a value of its state may be one Variable that were two.
TEST(RepeatedState, ALaterCallGivesTheSameNames) {
  MemoryState before;
  before.values = {{"out", number(1)}};
  RepeatedState repeated(before);
  const std::vector<Variable> values = RepeatedState::values(before);
  const auto call = [&](const Variable& in, const Variable& out) {
    MemoryState own = repeated.begun(values);
    own.values["in"] = in;
    own.values["out"] = out;
    std::vector<Variable> results = {number(3)};
    repeated.append_changes(own, values, results);
    return results;
  };
  const Variable in = number(2), out = number(4), other = number(5);
  EXPECT_EQ(call(in, out).size(), 3u);
  const std::vector<Variable> again = call(values[0], other);
  ASSERT_EQ(again.size(), 3u);
  EXPECT_EQ(again[1].impl(), values[0].impl());
  EXPECT_EQ(again[2].impl(), other.impl());
  MemoryState none = repeated.begun(values);
  std::vector<Variable> results;
  EXPECT_THAT(
      testing::message_of<UserError>([&] { repeated.append_changes(none, values, results); }),
      ::testing::AllOf(::testing::HasSubstr("\"in\""), ::testing::HasSubstr("rematerialize")));
}

}  // namespace
}  // namespace reverie
