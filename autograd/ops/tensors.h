#pragma once
/// Small things that the ops share.

#include "autograd/node.h"
#include "autograd/precision.h"
#include "kernels/copy.h"
#include "kernels/reduce.h"

namespace reverie {

inline Tensor empty_like(const Tensor& x) {
  return Tensor::empty(x.shape(), x.dtype(), x.device());
}

/// Room for what an elementwise map makes of x: x itself where nobody else can see it.
inline Tensor reused(const Tensor& x) {
  const bool own = x.unique() && x.is_contiguous() && x.bytes() == x.storage()->bytes();
  return own ? x : empty_like(x);
}

/// x itself, or a copy of it without gaps, made by its device's kernel.
inline Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  Tensor y = empty_like(x);
  kernel::strided_copy(x.device(), {x, false, y});
  return y;
}

/// An activation as backward keeps it: in bf16 where products are in bf16 (autograd/precision.h).
inline Tensor kept(const Context& ctx, const Tensor& x) {
  const bool rounds = ctx.recording() && x &&
                      stored_dtype(matmul_precision(), ReadBy::matmul, x.dtype()) != x.dtype();
  return rounds ? rounded_for(matmul_precision(), contiguous(x)) : x;
}
/// What was kept, in `dtype` again.
inline Tensor restored(const Tensor& kept, DType dtype) {
  if (!kept || kept.dtype() == dtype) return kept;
  Tensor x = Tensor::empty(kept.shape(), dtype, kept.device());
  kernel::cast(kept.device(), {kept, x});
  return x;
}

/// [.., C] as [rows, C].
inline Tensor rows(const Tensor& x) {
  require(x.rank() >= 1, "wanted a tensor with at least one dimension, got {}", x);
  return x.rank() == 2 ? x : x.view({x.numel() / std::max<int64_t>(1, x.size(-1)), x.size(-1)});
}

/// The gradient of a bias: sums x [.., C] over its rows, straight into the gradient buffer of input
/// `i` where there is one (then the returned tensor is undefined, as Context::leaf_grad wants it).
inline Tensor column_sum(Context& ctx, size_t i, const Tensor& x) {
  const int64_t columns = x.size(-1), n = x.numel() / std::max<int64_t>(1, columns);
  bool add = false;
  if (Tensor* buffer = ctx.leaf_grad(i, add)) {
    kernel::sum_forward(x.device(), {x, 1, n, columns, 1.0, add, *buffer});
    return {};
  }
  Tensor sum = Tensor::empty({columns}, x.dtype(), x.device());
  kernel::sum_forward(x.device(), {x, 1, n, columns, 1.0, false, sum});
  return sum;
}

}  // namespace reverie
