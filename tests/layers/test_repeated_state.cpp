// The state of a memory module as inputs and results of a function.

#include "layers/memory/repeated_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/variable.h"

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

}  // namespace
}  // namespace reverie
