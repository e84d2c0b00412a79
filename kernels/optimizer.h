#pragma once
/// Updates over flat buffers.

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// AdamW (Loshchilov & Hutter 2019) over a flat range [n], one pass: g = grad * grad_scale;
/// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t))
/// + eps) + weight_decay * p). f32 or f64. Where `rounded` (bf16 [n]) is given, f32 parameters are
/// also written to it, rounded to nearest even.
struct AdamW {
  Tensor& parameter;
  const Tensor& grad;
  Tensor& m;
  Tensor& v;
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;
  double grad_scale;
  Tensor* rounded = nullptr;
};
inline void check(const AdamW& a) {
  const Demands demand{"adamw"};
  demand.floating("parameter", a.parameter);
  demand.contiguous("parameter", a.parameter);
  demand.buffer("grad", a.grad, a.parameter.numel(), "parameter", a.parameter);
  demand.buffer("m", a.m, a.parameter.numel(), "parameter", a.parameter);
  demand.buffer("v", a.v, a.parameter.numel(), "parameter", a.parameter);
  if (a.rounded != nullptr) {
    require(a.parameter.dtype() == DType::f32 && a.rounded->dtype() == DType::bf16 &&
                a.rounded->device() == a.parameter.device() &&
                a.rounded->numel() == a.parameter.numel(),
            "adamw: rounded is {}; wanted bf16 beside parameters of f32, {}", *a.rounded,
            a.parameter);
    demand.contiguous("rounded", *a.rounded);
  }
  require(a.step >= 1, "adamw: step {} must count from 1", a.step);
}
inline profile::Work work(const AdamW& a) {
  return touched(a.parameter, a.grad, a.m, a.v, a.rounded != nullptr ? *a.rounded : Tensor());
}
namespace kernel {
inline constinit Kernel<AdamW> adamw{"adamw"};
}

}  // namespace reverie
