// What the emulated device does beside a product, and what it refuses as the library does.

#if defined(REVERIE_CUDA_EMULATED)

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"
#include "kernels/cuda/gemm/gemm.h"

namespace reverie::cuda {
namespace {

const Device kCuda{DeviceKind::cuda, 0};

Tensor on_cuda(const Shape& shape, DType dtype = DType::f32) {
  static Generator random(3);
  return random.normal(shape, 0, 1, dtype).to(kCuda);
}

TEST(Epilogues, AreOfTheProductsOwnOperands) {
  const Tensor a = on_cuda({3, 4}), b = on_cuda({4, 5}), bias = on_cuda({5});
  Tensor c = on_cuda({3, 5}), with_bias = on_cuda({3, 5}), sums_of_a = on_cuda({3}),
         sums_of_b = on_cuda({5});
  const uint32_t version = bias.version();  // all were written as often
  ASSERT_TRUE(multiply({a, b, 1.0, false, c}));
  ASSERT_TRUE(multiply({a, b, 1.0, false, with_bias}, Epilogue::bias, bias));
  ASSERT_TRUE(multiply({a, b, 1.0, false, c}, Epilogue::sums_of_a, sums_of_a));
  ASSERT_TRUE(multiply({a, b, 1.0, false, c}, Epilogue::sums_of_b, sums_of_b));
  EXPECT_EQ(bias.version(), version) << "it was only read";
  EXPECT_GT(sums_of_a.version(), version);
  EXPECT_GT(sums_of_b.version(), version);
  const auto at = [](const Tensor& t, int64_t i) { return t.to_vector()[size_t(i)]; };
  for (int64_t i = 0; i < 15; ++i)
    EXPECT_NEAR(at(with_bias, i), at(c, i) + at(bias, i % 5), 1e-6) << i;
  for (int64_t i = 0; i < 3; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < 4; ++k) sum += at(a, 4 * i + k);
    EXPECT_NEAR(at(sums_of_a, i), sum, 1e-6) << i;
  }
  for (int64_t j = 0; j < 5; ++j) {
    double sum = 0;
    for (int64_t k = 0; k < 4; ++k) sum += at(b, 5 * k + j);
    EXPECT_NEAR(at(sums_of_b, j), sum, 1e-6) << j;
  }
}

TEST(Epilogues, ThereAreNoneInF64AndOfNothing) {
  Tensor c = on_cuda({3, 5}, DType::f64), bias = on_cuda({5}, DType::f64);
  EXPECT_FALSE(multiply({on_cuda({3, 4}, DType::f64), on_cuda({4, 5}, DType::f64), 1.0, false, c},
                        Epilogue::bias, bias));
  Tensor narrow = on_cuda({3, 5});
  EXPECT_FALSE(multiply({on_cuda({3, 0}), on_cuda({0, 5}), 1.0, false, narrow}, Epilogue::bias,
                        on_cuda({5})));
}

TEST(Epilogues, WantVectorsOnABoundary) {
  Tensor c = on_cuda({3, 5});
  const Tensor a = on_cuda({3, 4}), b = on_cuda({4, 5}), shifted = on_cuda({6}).slice(0, 1, 6);
  EXPECT_THROW(multiply({a, b, 1.0, false, c}, Epilogue::bias, shifted), InternalError);
}

}  // namespace
}  // namespace reverie::cuda

#endif
