#pragma once
// Updates over flat buffers.

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// AdamW (Loshchilov & Hutter 2019) over a flat range [n], one pass: g = grad * grad_scale;
// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t))
// + eps) + weight_decay * p). f32 or f64.
struct AdamW {
  Tensor& parameter;
  const Tensor& grad;
  Tensor& m;
  Tensor& v;
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;
  double grad_scale;
};
void check(const AdamW&);
profile::Work work(const AdamW&);
namespace kernel {
inline constinit Kernel<AdamW> adamw{"adamw"};
}

}  // namespace reverie
