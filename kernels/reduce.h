#pragma once
/// Sums along one dimension, of tensors seen as [outer, dim, inner] (contiguous, f32 or f64). Sums
/// of f32 are taken in an order that does not depend on the number of threads.

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// y [outer, inner] = scale * sum over dim of x [outer, dim, inner]; accumulate: y += instead.
struct SumForward {
  const Tensor& x;
  int64_t outer, dim, inner;
  double scale;
  bool accumulate;
  Tensor& y;
};
inline void check(const SumForward& a) {
  const Demands demand{"sum_forward"};
  demand.floating("x", a.x);
  demand.buffer("x", a.x, a.outer * a.dim * a.inner, "x", a.x);
  demand.buffer("y", a.y, a.outer * a.inner, "x", a.x);
}
inline profile::Work work(const SumForward& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<SumForward> sum_forward{"sum_forward"};
}
/// grad_x [outer, dim, inner] = scale * grad_y [outer, inner] repeated along dim.
struct Repeat {
  const Tensor& grad_y;
  int64_t outer, dim, inner;
  double scale;
  Tensor& grad_x;
};
inline void check(const Repeat& a) {
  const Demands demand{"repeat"};
  demand.floating("grad_y", a.grad_y);
  demand.buffer("grad_y", a.grad_y, a.outer * a.inner, "grad_y", a.grad_y);
  demand.buffer("grad_x", a.grad_x, a.outer * a.dim * a.inner, "grad_y", a.grad_y);
}
inline profile::Work work(const Repeat& a) {
  return touched(a.grad_y, a.grad_x);
}
namespace kernel {
inline constinit Kernel<Repeat> repeat{"repeat"};
}
/// y[o, t, i] = sum over s <= t (reverse: s >= t) of x[o, s, i] + initial[o, i] (undefined: 0; not
/// with reverse).
struct CumulativeSum {
  const Tensor& x;
  int64_t outer, dim, inner;
  bool reverse;
  const Tensor& initial;
  Tensor& y;
};
inline void check(const CumulativeSum& a) {
  const Demands demand{"cumulative_sum"};
  demand.floating("x", a.x);
  demand.buffer("x", a.x, a.outer * a.dim * a.inner, "x", a.x);
  demand.buffer("y", a.y, a.outer * a.dim * a.inner, "x", a.x);
  demand.optional_buffer("initial", a.initial, a.outer * a.inner, "x", a.x);
  require(!(a.reverse && a.initial.defined()),
          "cumulative_sum: an initial value does not go with reverse");
}
inline profile::Work work(const CumulativeSum& a) {
  return touched(a.x, a.initial, a.y);
}
namespace kernel {
inline constinit Kernel<CumulativeSum> cumulative_sum{"cumulative_sum"};
}
/// result [1] (f64) += sum of squares of x: the global gradient norm. Deterministic.
struct SumSquares {
  const Tensor& x;
  Tensor& result;
};
inline void check(const SumSquares& a) {
  const Demands demand{"sum_squares"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.defined("result", a.result);
  require(a.result.dtype() == DType::f64 && a.result.numel() == 1,
          "sum_squares: result is {}; wanted f64[1]", a.result);
  require(a.result.device() == a.x.device(),
          "sum_squares: result is {} but x is {}; wanted one device", a.result, a.x);
}
inline profile::Work work(const SumSquares& a) {
  return touched(a.x, a.result);
}
namespace kernel {
inline constinit Kernel<SumSquares> sum_squares{"sum_squares"};
}

}  // namespace reverie
