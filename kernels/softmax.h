#pragma once
// Softmax over the last dimension and the classification loss. f32 or f64, contiguous [rows,
// columns].

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// y = softmax(scale * x); columns >= valid_columns(row) are excluded (y = 0). valid undefined: all
// are valid; else i32 [rows]. A row with none valid gives zeros. y may be x.
struct SoftmaxForward {
  const Tensor& x;
  double scale;
  const Tensor& valid;
  Tensor& y;
};
void check(const SoftmaxForward&);
profile::Work work(const SoftmaxForward&);
namespace kernel {
inline constinit Kernel<SoftmaxForward> softmax_forward{"softmax_forward"};
}
// grad_x = scale * y * (grad_y - sum(grad_y * y)). grad_x may be grad_y.
struct SoftmaxBackward {
  const Tensor& y;
  const Tensor& grad_y;
  double scale;
  Tensor& grad_x;
};
void check(const SoftmaxBackward&);
profile::Work work(const SoftmaxBackward&);
namespace kernel {
inline constinit Kernel<SoftmaxBackward> softmax_backward{"softmax_backward"};
}

// logits [rows, V], targets i32 [rows] (-1: no target) -> loss [rows] = logsumexp(logits) -
// logits[target] (0 without a target), log_sum_exp [rows]. A target outside [-1, V) is UserError.
struct CrossEntropyForward {
  const Tensor& logits;
  const Tensor& targets;
  Tensor& loss;
  Tensor& log_sum_exp;
};
void check(const CrossEntropyForward&);
profile::Work work(const CrossEntropyForward&);
namespace kernel {
inline constinit Kernel<CrossEntropyForward> cross_entropy_forward{"cross_entropy_forward"};
}
// grad_logits = (exp(logits - log_sum_exp) - one_hot(target)) * grad_loss[row] (0 without a
// target). May be written over logits, so that B*T*V numbers are never stored twice.
struct CrossEntropyBackward {
  const Tensor& logits;
  const Tensor& targets;
  const Tensor& log_sum_exp;
  const Tensor& grad_loss;
  Tensor& grad_logits;
};
void check(const CrossEntropyBackward&);
profile::Work work(const CrossEntropyBackward&);
namespace kernel {
inline constinit Kernel<CrossEntropyBackward> cross_entropy_backward{"cross_entropy_backward"};
}

}  // namespace reverie
