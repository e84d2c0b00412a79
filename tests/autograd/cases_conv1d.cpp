// Causal depthwise convolution: gradients, PyTorch's values, and a text in pieces.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/conv1d.h"
#include "core/safetensors.h"
#include "op_cases.h"
#include "support/tests_directory.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  for (const int64_t taps : {1, 3, 4}) {
    for (const int64_t time : {1, 2, 7}) {
      const Shape x{2, time, 3}, weight{3, taps}, bias{3}, context{2, taps - 1, 3};
      const std::string suffix = fmt::format("_taps_{}_time_{}", taps, time);
      list.add("conv1d" + suffix, {x, weight, bias, context},
               [](const Variables& v) { return Variables{conv1d(v[0], v[1], v[2], v[3])}; });
      list.add("conv1d_without_context" + suffix, {x, weight, bias},
               [](const Variables& v) { return Variables{conv1d(v[0], v[1], v[2])}; });
      list.add("conv1d_without_bias" + suffix, {x, weight},
               [](const Variables& v) { return Variables{conv1d(v[0], v[1])}; });
    }
  }
  list.refuses("conv1d", "conv1d_forward: weight is f64[4, 3] cpu; wanted [3, taps]", [] {
    conv1d(zeros({2, 5, 3}), zeros({4, 3}));
  });
  list.refuses("conv1d", "conv1d_forward: context is f64[2, 3, 3] cpu; wanted [2, 2, 3]", [] {
    conv1d(zeros({2, 5, 3}), zeros({3, 3}), {}, zeros({2, 3, 3}));
  });
}

const OpCaseFile file(cases);

double difference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_vector(), y = b.to_vector();
  if (x.size() != y.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = std::abs(x[i] - y[i]);
    worst = error <= worst ? worst : error;  // NaN, too
  }
  return worst;
}

TEST(Conv1d, EqualsPyTorch) {
  const SafetensorsFile golden =
      read_safetensors(testing::test_directory() + "/golden/conv1d.safetensors");
  for (const char* name : {"short", "long"}) {
    SCOPED_TRACE(name);
    const auto value = [&](const std::string& what) {
      return golden.at(std::string(name) + "." + what);
    };
    const Variable x(value("x"), true), weight(value("weight"), true), bias(value("bias"), true);
    const Variable y = conv1d(x, weight, bias);
    EXPECT_LE(difference(y.tensor(), value("y")), 1e-14);
    const Tensor cotangent = value("grad.y");
    backward(std::vector{y}, std::vector{cotangent});
    EXPECT_LE(difference(x.grad(), value("grad.x")), 1e-14);
    EXPECT_LE(difference(weight.grad(), value("grad.weight")), 1e-13);
    EXPECT_LE(difference(bias.grad(), value("grad.bias")), 1e-13);
    EXPECT_GT(difference(y.tensor(), value("x")), 1e-3) << "the values are of a convolution";
  }
}

TEST(Conv1d, ATextInPiecesIsTheWholeText) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Variable x(normal({2, 11, 5}, 1, dtype)), weight(normal({5, 4}, 2, dtype)),
        bias(normal({5}, 3, dtype));
    const Tensor whole = conv1d(x, weight, bias).tensor();
    Tensor context;
    int64_t at = 0;
    for (const int64_t rows : {1, 1, 2, 6, 1}) {
      const Tensor piece = x.tensor().slice(1, at, at + rows).clone();
      const Variable before = context ? Variable(context) : Variable();
      const Tensor y = conv1d(Variable(piece), weight, bias, before).tensor();
      EXPECT_TRUE(bit_identical(y, whole.slice(1, at, at + rows).clone())) << "rows from " << at;
      context = conv1d_context(piece, 4, context);
      at += rows;
    }
    EXPECT_EQ(at, 11);
    EXPECT_TRUE(bit_identical(context, x.tensor().slice(1, 8, 11).clone()));
  }
}

TEST(Conv1d, NoRowSeesALaterOne) {
  const Tensor x = normal({1, 9, 3}, 1);
  const Variable weight(normal({3, 4}, 2));
  const Tensor before = conv1d(Variable(x), weight).tensor();
  Tensor changed = x.clone();
  changed.mutable_data<double>()[5 * 3] += 1;
  const Tensor after = conv1d(Variable(changed), weight).tensor();
  EXPECT_TRUE(bit_identical(before.slice(1, 0, 5).clone(), after.slice(1, 0, 5).clone()));
  EXPECT_FALSE(bit_identical(before.slice(1, 5, 6).clone(), after.slice(1, 5, 6).clone()));
}

}  // namespace
}  // namespace reverie::testing
