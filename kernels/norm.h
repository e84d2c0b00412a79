#pragma once
/// Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) over the last dimension, with
/// the residual addition fused. x, residual, y, sum: [rows, columns] contiguous, f32 or f64.

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

enum class Norm : uint8_t { layer, rms };

/// sum = x + residual (residual undefined: x itself is normalised and `sum` is not written);
/// layer: y = (sum - mean) * rstd * weight + bias; rms: y = sum * rstd * weight. weight, bias
/// [columns] may be undefined (1, 0). mean, rstd [rows] are kept for the backward pass (mean unused
/// by rms). y may be bf16 where x is f32: the operand of a product.
struct NormForward {
  Norm kind;
  const Tensor& x;
  const Tensor& residual;
  const Tensor& weight;
  const Tensor& bias;
  double eps;
  Tensor& sum;
  Tensor& y;
  Tensor& mean;
  Tensor& rstd;
};
inline void check(const NormForward& a) {
  const Demands demand{"norm_forward"};
  demand.rows("x", a.x);
  demand.optional_buffer("residual", a.residual, a.x.numel(), "x", a.x);
  demand.optional_vector("weight", a.weight, columns_of(a.x), "x", a.x);
  demand.optional_vector("bias", a.bias, columns_of(a.x), "x", a.x);
  if (a.residual.defined()) demand.buffer("sum", a.sum, a.x.numel(), "x", a.x);
  demand.operand_buffer("y", a.y, a.x.numel(), "x", a.x);
  if (a.kind == Norm::layer) demand.buffer("mean", a.mean, count_rows(a.x), "x", a.x);
  demand.buffer("rstd", a.rstd, count_rows(a.x), "x", a.x);
}
inline profile::Work work(const NormForward& a) {
  return touched(a.x, a.residual, a.weight, a.bias, a.sum, a.y, a.mean, a.rstd);
}
namespace kernel {
inline constinit Kernel<NormForward> norm_forward{"norm_forward"};
}

/// From the normalised input `x` (= sum where there was a residual): grad_x = d(y)/d(x) applied to
/// grad_y, plus grad_sum where that is defined (the gradient that reaches the sum past the norm).
/// grad_weight, grad_bias [columns] (undefined: not wanted) are written, not added to. grad_x
/// undefined: not wanted. Column sums do not depend on the number of threads.
struct NormBackward {
  Norm kind;
  const Tensor& x;
  const Tensor& weight;
  const Tensor& mean;
  const Tensor& rstd;
  const Tensor& grad_y;
  const Tensor& grad_sum;
  Tensor& grad_x;
  Tensor& grad_weight;
  Tensor& grad_bias;
};
inline void check(const NormBackward& a) {
  const Demands demand{"norm_backward"};
  demand.rows("x", a.x);
  demand.optional_vector("weight", a.weight, columns_of(a.x), "x", a.x);
  if (a.kind == Norm::layer) demand.buffer("mean", a.mean, count_rows(a.x), "x", a.x);
  demand.buffer("rstd", a.rstd, count_rows(a.x), "x", a.x);
  demand.buffer("grad_y", a.grad_y, a.x.numel(), "x", a.x);
  demand.optional_buffer("grad_sum", a.grad_sum, a.x.numel(), "x", a.x);
  demand.optional_buffer("grad_x", a.grad_x, a.x.numel(), "x", a.x);
  demand.optional_buffer("grad_weight", a.grad_weight, columns_of(a.x), "x", a.x);
  demand.optional_buffer("grad_bias", a.grad_bias, columns_of(a.x), "x", a.x);
}
inline profile::Work work(const NormBackward& a) {
  return touched(a.x, a.weight, a.mean, a.rstd, a.grad_y, a.grad_sum, a.grad_x, a.grad_weight,
                 a.grad_bias);
}
namespace kernel {
inline constinit Kernel<NormBackward> norm_backward{"norm_backward"};
}

}  // namespace reverie
