// Products of few rows, as in decoding: what stands beside a row does not change it.

#include <gtest/gtest.h>

#include "core/random.h"
#include "kernels/matmul.h"

namespace reverie::test {
namespace {

Tensor random(const Shape& shape, DType dtype, uint64_t seed) {
  return Generator(seed).normal(shape, 0, 1, DType::f64).to(dtype);
}

Tensor product(const Tensor& a, const Tensor& b) {
  const DType dtype = a.dtype() == DType::bf16 ? DType::f32 : a.dtype();
  Tensor c = Tensor::empty({a.size(0), b.size(1)}, dtype);
  kernel::matmul({}, {a, b, 1.0, false, c});
  return c;
}

// A text that is written beside others is the same to the bit: its rows see the same sums.
TEST(SkinnyGemm, ARowIsTheSameAloneAndBesideOthers) {
  for (int i = 0; i < kIsas; ++i) {
    if (!isa_supported(Isa(i))) continue;
    set_active_isa(Isa(i));
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const bool transposed : {false, true})
        for (const int64_t k : {40, 1500}) {
          const int64_t n = 203;
          const Tensor a = random({8, k}, dtype, 1),
                       b = transposed ? random({n, k}, dtype, 2).transpose(0, 1)
                                      : random({k, n}, dtype, 2);
          const Tensor all = product(a, b);
          for (int64_t rows = 1; rows < 8; ++rows)
            EXPECT_TRUE(
                bit_identical(product(a.slice(0, 0, rows), b), all.slice(0, 0, rows).contiguous()))
                << name_of(Isa(i)) << " " << name_of(dtype) << " k " << k << ", " << rows << " rows"
                << (transposed ? ", transposed" : "");
        }
  }
  for (int i = 0; i < kIsas; ++i)
    if (isa_supported(Isa(i))) set_active_isa(Isa(i));
}

}  // namespace
}  // namespace reverie::test
