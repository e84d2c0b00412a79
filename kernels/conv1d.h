#pragma once
/// Causal depthwise convolution along time, the short convolution in front of a state-space layer
/// (Gu & Dao, "Mamba", 2023, section 3.4).

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// y[b, t, c] = bias[c] + sum over k < K of weight[c, k] * row(b, t - K + 1 + k)[c]. x and y are
/// [B, T, C], weight is [C, K], bias [C] may be undefined; f32 or f64, contiguous. row(b, s) is
/// x[b, s], and before x (s < 0) context[b, K - 1 + s]: context [B, K - 1, C] holds the rows that
/// came before; undefined, they are 0. So row t sees rows t - K + 1 .. t and none after it.
struct Conv1dForward {
  const Tensor& x;
  const Tensor& weight;
  const Tensor& bias;
  const Tensor& context;
  Tensor& y;
};
inline void demand_conv1d(const Demands& demand, const Tensor& x, const Tensor& weight,
                          const Tensor& context) {
  demand.rows("x", x);
  require(x.rank() == 3, "{}: x is {}; wanted [batch, time, channels]", demand.kernel, x);
  demand.alike("weight", weight, "x", x);
  demand.contiguous("weight", weight);
  require(weight.rank() == 2 && weight.size(0) == x.size(2) && weight.size(1) >= 1,
          "{}: weight is {}; wanted [{}, taps], at least one tap, to go with x {}", demand.kernel,
          weight, x.size(2), x);
  if (!context.defined()) return;
  demand.alike("context", context, "x", x);
  demand.contiguous("context", context);
  demand.shape("context", context, {x.size(0), weight.size(1) - 1, x.size(2)});
}
inline void check(const Conv1dForward& a) {
  const Demands demand{"conv1d_forward"};
  demand_conv1d(demand, a.x, a.weight, a.context);
  demand.optional_vector("bias", a.bias, a.x.size(2), "x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
}
inline profile::Work work(const Conv1dForward& a) {
  return computed(2.0 * double(a.x.numel()) * double(a.weight.size(1)), a.x, a.weight, a.bias,
                  a.context, a.y);
}
namespace kernel {
inline constinit Kernel<Conv1dForward> conv1d_forward{"conv1d_forward"};
}

/// From grad_y [B, T, C]: grad_x, grad_weight and grad_context, shaped like their inputs; written,
/// not added to; an undefined one is not computed. The sums over batch and time do not depend on the
/// number of threads. The gradient of the bias is the column sum of grad_y.
struct Conv1dBackward {
  const Tensor& x;
  const Tensor& weight;
  const Tensor& context;
  const Tensor& grad_y;
  Tensor& grad_x;
  Tensor& grad_weight;
  Tensor& grad_context;
};
inline void check(const Conv1dBackward& a) {
  const Demands demand{"conv1d_backward"};
  demand_conv1d(demand, a.x, a.weight, a.context);
  demand.buffer("grad_y", a.grad_y, a.x.numel(), "x", a.x);
  demand.optional_buffer("grad_x", a.grad_x, a.x.numel(), "x", a.x);
  demand.optional_buffer("grad_weight", a.grad_weight, a.weight.numel(), "weight", a.weight);
  if (!a.grad_context.defined()) return;
  demand.defined("context", a.context);
  demand.buffer("grad_context", a.grad_context, a.context.numel(), "context", a.context);
}
inline profile::Work work(const Conv1dBackward& a) {
  const double products = double(a.grad_x.defined()) + double(a.grad_weight.defined());
  return computed(2.0 * products * double(a.x.numel()) * double(a.weight.size(1)), a.x, a.weight,
                  a.context, a.grad_y, a.grad_x, a.grad_weight, a.grad_context);
}
namespace kernel {
inline constinit Kernel<Conv1dBackward> conv1d_backward{"conv1d_backward"};
}

}  // namespace reverie
