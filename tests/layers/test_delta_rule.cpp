// The chunked delta rule is the step-by-step one, to rounding, for any lengths; and what it remembers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "layers/memory/memory_module.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::largest_difference;

constexpr int64_t kWidth = 8;

std::unique_ptr<MemoryModule> make(const Json& changes, DType dtype = DType::f64) {
  Json options = {{"type", "delta_rule"}, {"heads", 2}};
  options.update(changes);
  Generator random(3);
  const Build build{random, dtype};
  const auto& registry = MemoryRegistry::instance();
  auto module = registry.make(resolve_component(registry, Config(options, "$.memory")),
                              MemorySite{kWidth, 1, build});
  for (const auto& [name, parameter] : module->parameters()) {
    Tensor value = parameter.tensor();
    value.copy_from(random.normal(value.shape(), 0, 0.5, DType::f64).to(dtype));
  }
  return module;
}
Variable rows(int64_t time, DType dtype = DType::f64) {
  Generator random(8);
  return Variable(random.normal({2, time, kWidth}, 0, 1, DType::f64).to(dtype), true);
}

struct Result {
  Tensor output, grad;
  MemoryState state;
};
// Two windows, the second one after the first's state; the gradient of x is of both.
Result run(MemoryModule& module, const Variable& x) {
  Result r;
  const Variable first = module.after_block({0, x}, r.state),
                 second = module.after_block({0, x}, r.state);
  const Variable both = concat({first, second}, 1);
  Generator random(4);
  backward(sum_all(
      multiply(both, Variable(random.normal(both.shape(), 0, 1, DType::f64).to(x.dtype())))));
  r.output = both.tensor();
  r.grad = x.grad();
  return r;
}

class DeltaRule : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Variants, DeltaRule, ::testing::Values("plain", "decay", "momentum"),
                         [](const auto& info) { return info.param; });

TEST_P(DeltaRule, ChunksAreTheStepsToRounding) {
  for (const double limit : {1.0, 2.0})
    for (const int64_t time : {1, 2, 5, 16, 33}) {
      const Json variant = {{"variant", GetParam()}, {"write_limit", limit}};
      Json stepwise = variant;
      stepwise["form"] = "stepwise";
      const auto steps = make(stepwise);
      const Result wanted = run(*steps, rows(time));
      for (const int64_t chunk : {1, 2, 3, 4, 7, 16, 64}) {
        Json chunked = variant;
        chunked["chunk_length"] = chunk;
        const auto chunks = make(chunked);
        const Result got = run(*chunks, rows(time));
        const auto where = fmt::format("{} rows in chunks of {}, limit {}", time, chunk, limit);
        EXPECT_LT(largest_difference(got.output, wanted.output), 1e-12) << where;
        EXPECT_LT(largest_difference(got.grad, wanted.grad), 1e-11) << where;
        for (const auto& [name, value] : wanted.state.values)
          EXPECT_LT(largest_difference(got.state.values.at(name).tensor(), value.tensor()), 1e-12)
              << where << ", " << name;
        ASSERT_EQ(got.state.values.size(), wanted.state.values.size());
      }
    }
}

// In f32 a chunk's triangular system must not lose digits: a series of powers would lose four here,
// where every key is the same.
TEST_P(DeltaRule, ChunksOfEqualKeysKeepTheirDigits) {
  Generator random(2);
  const Tensor one = random.normal({1, 1, kWidth}, 0, 1, DType::f64);
  const Variable same = expand(expand(Variable(one.to(DType::f32)), 1, 64), 0, 2);
  const auto output = [&](const char* form) {
    const auto module = make(
        {{"variant", GetParam()}, {"form", form}, {"chunk_length", 64}, {"taps", 1}}, DType::f32);
    MemoryState state;
    return module->after_block({0, same}, state).tensor().to(DType::f64);
  };
  EXPECT_LT(largest_difference(output("chunked"), output("stepwise")), 2e-5);
}

// A full write makes S^T k = v, so that the same row again has nothing to add.
TEST(DeltaRuleMemory, WhatIsKnownIsNotWrittenAgain) {
  const auto plain = make({{"variant", "plain"}, {"heads", 1}, {"taps", 1}});
  for (const auto& [name, parameter] : plain->parameters()) {
    Tensor value = parameter.tensor();
    std::vector<double> values(size_t(value.numel()), name == "write_gate.bias" ? 60 : 0);
    if (name == "key.weight" || name == "value.weight")
      for (int64_t i = 0; i < kWidth; ++i) values[size_t(i * kWidth + i)] = 1;
    value.copy_from(Tensor::from<double>(value.shape(), values));
  }
  MemoryState state;
  const auto write = [&] {
    plain->after_block({0, rows(1)}, state);
    return state.values.at("0.memory").tensor().clone();
  };
  const Tensor empty = Tensor::zeros({2, 1, kWidth, kWidth}, DType::f64), once = write();
  EXPECT_GT(largest_difference(once, empty), 0.1);
  EXPECT_LT(largest_difference(write(), once), 1e-5);  // keys have length 1 but for 1e-6
}

// A key may be of the row before, so that a value is written under what stood in front of it.
TEST(DeltaRuleMemory, TapsSeeTheRowsRightBefore) {
  const auto moved_rows = [](int64_t taps) {
    const auto module = make({{"variant", "plain"}, {"taps", taps}});
    for (const auto& [name, parameter] : module->parameters())
      if (name == "write_gate.bias") {
        Tensor value = parameter.tensor();
        value.copy_from(Tensor::full(value.shape(), -60, DType::f64));  // it writes nothing
      }
    const auto keys = [&](double shift) {
      Tensor x = rows(6).tensor().clone();
      x.mutable_data<double>()[0] += shift;
      MemoryState state;
      state.values["0.memory"] =
          Variable(Generator(6).normal({2, 2, kWidth / 2, kWidth / 2}, 0, 1, DType::f64));
      return subtract(module->after_block({0, Variable(x)}, state), Variable(x)).tensor();
    };
    const Tensor a = keys(0), b = keys(1);
    std::vector<bool> moved;
    for (int64_t t = 0; t < 6; ++t)
      moved.push_back(largest_difference(a.slice(1, t, t + 1), b.slice(1, t, t + 1)) > 1e-9);
    return moved;
  };
  EXPECT_THAT(moved_rows(1), ::testing::ElementsAre(true, false, false, false, false, false));
  EXPECT_THAT(moved_rows(3), ::testing::ElementsAre(true, true, true, false, false, false));
}

TEST(DeltaRuleMemory, HeadsMustDivideTheWidth) {
  EXPECT_THROW(make({{"heads", 3}}), UserError);
}

}  // namespace
}  // namespace reverie
