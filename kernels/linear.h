#pragma once
/// Linear layers with a bias: products with the bias, or the sum for its gradient, in the same call,
/// so that a device whose library does these while it multiplies saves a pass over the result.

#include "kernels/matmul.h"

namespace reverie {

/// y [rows, out] = x [rows, in] weight [in, out] + bias [out]. x, weight and y as a, b and c of
/// Matmul, in two dimensions; y and bias contiguous and of one dtype.
struct LinearForward {
  const Tensor& x;
  const Tensor& weight;
  const Tensor& bias;
  Tensor& y;
};
inline void check(const LinearForward& a) {
  const Demands demand{"linear_forward"};
  check(Matmul{a.x, a.weight, 1.0, false, a.y});
  require(a.y.rank() == 2, "{}: y is {}; wanted [rows, out]", demand.kernel, a.y);
  demand.contiguous("y", a.y);
  demand.vector("bias", a.bias, a.y.size(1), "y", a.y);
}
inline profile::Work work(const LinearForward& a) {
  const profile::Work product = work(Matmul{a.x, a.weight, 1.0, false, a.y});
  return {product.flops, product.bytes + touched(a.bias).bytes};
}
namespace kernel {
inline constinit Kernel<LinearForward> linear_forward{"linear_forward"};
}

/// From grad_y [rows, out]: the gradient of the weight, a product that sums over the rows (its b is
/// grad_y, or its a grad_y's transpose, perhaps rounded to bf16); of the bias, grad_bias [out] (+)=
/// the sum of grad_y's rows as they are given; and of x, where `input` is not null.
struct LinearBackward {
  const Tensor& grad_y;
  Matmul weight;
  const Matmul* input;
  bool accumulate_bias;
  Tensor& grad_bias;
};
inline void check(const LinearBackward& a) {
  const Demands demand{"linear_backward"};
  demand.rows("grad_y", a.grad_y);
  require(a.grad_y.rank() == 2, "{}: grad_y is {}; wanted [rows, out]", demand.kernel, a.grad_y);
  check(a.weight);
  require(a.weight.a.rank() == 2 && a.weight.a.size(1) == a.grad_y.size(0),
          "{}: the weight's product sums over {} rows of {}; wanted the {} of grad_y {}",
          demand.kernel, a.weight.a.size(-1), a.weight.a, a.grad_y.size(0), a.grad_y);
  if (a.input != nullptr) check(*a.input);
  demand.buffer("grad_bias", a.grad_bias, a.grad_y.size(1), "grad_y", a.grad_y);
}
inline profile::Work work(const LinearBackward& a) {
  const profile::Work weight = work(a.weight),
                      input = a.input != nullptr ? work(*a.input) : profile::Work{};
  return {weight.flops + input.flops,
          weight.bytes + input.bytes + touched(a.grad_y, a.grad_bias).bytes};
}
namespace kernel {
inline constinit Kernel<LinearBackward> linear_backward{"linear_backward"};
}

/// The same by other rows, one after another.
void linear_forward_by_parts(Device, const LinearForward&);
void linear_backward_by_parts(Device, const LinearBackward&);

}  // namespace reverie
