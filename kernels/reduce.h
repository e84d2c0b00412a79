#pragma once
// Sums along one dimension, of tensors seen as [outer, dim, inner] (contiguous, f32 or f64). Sums
// of f32 are taken in an order that does not depend on the number of threads.

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// y [outer, inner] = scale * sum over dim of x [outer, dim, inner]; accumulate: y += instead.
struct SumForward {
  const Tensor& x;
  int64_t outer, dim, inner;
  double scale;
  bool accumulate;
  Tensor& y;
};
void check(const SumForward&);
profile::Work work(const SumForward&);
namespace kernel {
inline constinit Kernel<SumForward> sum_forward{"sum_forward"};
}
// grad_x [outer, dim, inner] = scale * grad_y [outer, inner] repeated along dim.
struct Repeat {
  const Tensor& grad_y;
  int64_t outer, dim, inner;
  double scale;
  Tensor& grad_x;
};
void check(const Repeat&);
profile::Work work(const Repeat&);
namespace kernel {
inline constinit Kernel<Repeat> repeat{"repeat"};
}
// y[o, t, i] = sum over s <= t (reverse: s >= t) of x[o, s, i] + initial[o, i] (undefined: 0; not
// with reverse).
struct CumulativeSum {
  const Tensor& x;
  int64_t outer, dim, inner;
  bool reverse;
  const Tensor& initial;
  Tensor& y;
};
void check(const CumulativeSum&);
profile::Work work(const CumulativeSum&);
namespace kernel {
inline constinit Kernel<CumulativeSum> cumulative_sum{"cumulative_sum"};
}
// result [1] (f64) += sum of squares of x: the global gradient norm. Deterministic.
struct SumSquares {
  const Tensor& x;
  Tensor& result;
};
void check(const SumSquares&);
profile::Work work(const SumSquares&);
namespace kernel {
inline constinit Kernel<SumSquares> sum_squares{"sum_squares"};
}

}  // namespace reverie
