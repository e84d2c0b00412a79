// Every op on device cuda: outputs and gradients are the CPU's, in f64.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "autograd/variable.h"
#include "core/cuda.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

// The case's outputs and its inputs' gradients, on one device.
std::vector<std::vector<double>> run(const OpCase& c, Device device) {
  Variables inputs;
  for (const Tensor& t : c.inputs) inputs.emplace_back(t.to(device).clone(), true);
  default_generator() = Generator(9);
  const Variables outputs = c.function(inputs);
  std::vector<Tensor> cotangents;
  for (const Variable& y : outputs)
    cotangents.push_back(normal(y.shape(), 50 + cotangents.size()).to(device));
  backward(outputs, cotangents);
  std::vector<std::vector<double>> values;
  for (const Variable& y : outputs) values.push_back(y.tensor().to_vector());
  for (const Variable& x : inputs)
    values.push_back(x.grad().defined() ? x.grad().to_vector() : std::vector<double>{});
  return values;
}

TEST(CudaOps, EqualTheCpus) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  for (const OpCase& c : op_cases()) {
    SCOPED_TRACE(c.name);
    const auto cpu = run(c, Device{}), cuda = run(c, {DeviceKind::cuda, 0});
    ASSERT_EQ(cpu.size(), cuda.size());
    for (size_t i = 0; i < cpu.size(); ++i) {
      ASSERT_EQ(cpu[i].size(), cuda[i].size());
      double size = 1, worst = 0;
      for (const double x : cpu[i]) size = std::max(size, std::abs(x));
      for (size_t k = 0; k < cpu[i].size(); ++k) {
        const double difference = std::abs(cpu[i][k] - cuda[i][k]);
        worst = difference <= worst ? worst : difference;  // NaN, too
      }
      EXPECT_LE(worst, 1e-12 * size) << "tensor " << i;
    }
  }
}

}  // namespace
}  // namespace reverie::testing
