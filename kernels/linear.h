#pragma once
// Linear layers with a bias: products with the bias, or the sum for its gradient, in the same call,
// so that a device whose library does these while it multiplies saves a pass over the result.

#include "kernels/matmul.h"

namespace reverie {

// y [rows, out] = x [rows, in] weight [in, out] + bias [out]. x, weight and y as a, b and c of
// Matmul, in two dimensions; y and bias contiguous and of one dtype.
struct LinearForward {
  const Tensor& x;
  const Tensor& weight;
  const Tensor& bias;
  Tensor& y;
};
void check(const LinearForward&);
profile::Work work(const LinearForward&);
namespace kernel {
inline constinit Kernel<LinearForward> linear_forward{"linear_forward"};
}

// From grad_y [rows, out]: the gradient of the weight, a product that sums over the rows (its b is
// grad_y, or its a grad_y's transpose, perhaps rounded to bf16); of the bias, grad_bias [out] (+)=
// the sum of grad_y's rows as they are given; and of x, where `input` is not null.
struct LinearBackward {
  const Tensor& grad_y;
  Matmul weight;
  const Matmul* input;
  bool accumulate_bias;
  Tensor& grad_bias;
};
void check(const LinearBackward&);
profile::Work work(const LinearBackward&);
namespace kernel {
inline constinit Kernel<LinearBackward> linear_backward{"linear_backward"};
}

// The same by other rows, one after another.
void linear_forward_by_parts(Device, const LinearForward&);
void linear_backward_by_parts(Device, const LinearBackward&);

}  // namespace reverie
