#pragma once
// Copies between layouts and between number types.

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// y = x, same shape and dtype, any strides on either side; accumulate: y += x (floats).
struct StridedCopy {
  const Tensor& x;
  bool accumulate;
  Tensor& y;
};
void check(const StridedCopy&);
profile::Work work(const StridedCopy&);
namespace kernel {
inline constinit Kernel<StridedCopy> strided_copy{"strided_copy"};
}

// y = x in the other of f32 and bf16, rounded to nearest even; both contiguous, of one shape.
struct Cast {
  const Tensor& x;
  Tensor& y;
};
void check(const Cast&);
profile::Work work(const Cast&);
namespace kernel {
inline constinit Kernel<Cast> cast{"cast"};
}

}  // namespace reverie
