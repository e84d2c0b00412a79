#pragma once
// Copies between layouts.

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
namespace kernel {
inline constinit Kernel<StridedCopy> strided_copy{"strided_copy"};
}

}  // namespace reverie
