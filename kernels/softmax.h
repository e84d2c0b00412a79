#pragma once
/// Softmax over the last dimension and the classification loss. f32 or f64, contiguous [rows,
/// columns].

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// y = softmax(scale * x); columns >= valid_columns(row) are excluded (y = 0). valid undefined: all
/// are valid; else i32 [rows]. A row with none valid gives zeros. y may be x.
struct SoftmaxForward {
  const Tensor& x;
  double scale;
  const Tensor& valid;
  Tensor& y;
};
inline void check(const SoftmaxForward& a) {
  const Demands demand{"softmax_forward"};
  demand.rows("x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
  if (a.valid.defined()) demand.integers("valid", a.valid, count_rows(a.x), a.x);
}
inline profile::Work work(const SoftmaxForward& a) {
  return touched(a.x, a.valid, a.y);
}
namespace kernel {
inline constinit Kernel<SoftmaxForward> softmax_forward{"softmax_forward"};
}
/// grad_x = scale * y * (grad_y - sum(grad_y * y)). grad_x may be grad_y.
struct SoftmaxBackward {
  const Tensor& y;
  const Tensor& grad_y;
  double scale;
  Tensor& grad_x;
};
inline void check(const SoftmaxBackward& a) {
  const Demands demand{"softmax_backward"};
  demand.rows("y", a.y);
  demand.buffer("grad_y", a.grad_y, a.y.numel(), "y", a.y);
  demand.buffer("grad_x", a.grad_x, a.y.numel(), "y", a.y);
}
inline profile::Work work(const SoftmaxBackward& a) {
  return touched(a.y, a.grad_y, a.grad_x);
}
namespace kernel {
inline constinit Kernel<SoftmaxBackward> softmax_backward{"softmax_backward"};
}

/// logits [rows, V], targets i32 [rows] (-1: no target) -> loss [rows] = logsumexp(logits) -
/// logits[target] (0 without a target), log_sum_exp [rows]. A target outside [-1, V) is UserError.
struct CrossEntropyForward {
  const Tensor& logits;
  const Tensor& targets;
  Tensor& loss;
  Tensor& log_sum_exp;
};
inline void check(const CrossEntropyForward& a) {
  const Demands demand{"cross_entropy_forward"};
  demand.rows("logits", a.logits);
  demand.integers("targets", a.targets, count_rows(a.logits), a.logits);
  demand.within("targets", a.targets, -1, columns_of(a.logits));
  demand.buffer("loss", a.loss, count_rows(a.logits), "logits", a.logits);
  demand.buffer("log_sum_exp", a.log_sum_exp, count_rows(a.logits), "logits", a.logits);
}
inline profile::Work work(const CrossEntropyForward& a) {
  return touched(a.logits, a.targets, a.loss, a.log_sum_exp);
}
namespace kernel {
inline constinit Kernel<CrossEntropyForward> cross_entropy_forward{"cross_entropy_forward"};
}
/// grad_logits = (exp(logits - log_sum_exp) - one_hot(target)) * grad_loss[row] (0 without a
/// target). May be written over logits, so that B*T*V numbers are never stored twice.
struct CrossEntropyBackward {
  const Tensor& logits;
  const Tensor& targets;
  const Tensor& log_sum_exp;
  const Tensor& grad_loss;
  Tensor& grad_logits;
};
inline void check(const CrossEntropyBackward& a) {
  const Demands demand{"cross_entropy_backward"};
  demand.rows("logits", a.logits);
  demand.integers("targets", a.targets, count_rows(a.logits), a.logits);
  demand.within("targets", a.targets, -1, columns_of(a.logits));
  demand.buffer("log_sum_exp", a.log_sum_exp, count_rows(a.logits), "logits", a.logits);
  demand.buffer("grad_loss", a.grad_loss, count_rows(a.logits), "logits", a.logits);
  demand.buffer("grad_logits", a.grad_logits, a.logits.numel(), "logits", a.logits);
}
inline profile::Work work(const CrossEntropyBackward& a) {
  return touched(a.logits, a.targets, a.log_sum_exp, a.grad_loss, a.grad_logits);
}
namespace kernel {
inline constinit Kernel<CrossEntropyBackward> cross_entropy_backward{"cross_entropy_backward"};
}

}  // namespace reverie
