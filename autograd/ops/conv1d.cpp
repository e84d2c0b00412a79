#include "autograd/ops/conv1d.h"

#include "autograd/ops/tensors.h"
#include "kernels/conv1d.h"

namespace reverie {
namespace {

struct Conv1dOp {
  static constexpr std::string_view name = "conv1d";
  Tensor forward(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                 const Tensor& context) {
    Tensor y = empty_like(x);
    kernel::conv1d_forward(x.device(), {x, weight, bias, context, y});
    ctx.save({x, weight, context});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const Tensor &x = ctx.saved(0), &weight = ctx.saved(1), &context = ctx.saved(2);
    Grads grads(4);
    if (ctx.needs(0)) grads[0] = empty_like(x);
    if (ctx.needs(1)) grads[1] = empty_like(weight);
    if (ctx.needs(2)) grads[2] = column_sum(ctx, 2, grad_y);
    if (ctx.needs(3)) grads[3] = empty_like(context);
    kernel::conv1d_backward(x.device(), {x, weight, context, grad_y, grads[0], grads[1], grads[3]});
    return grads;
  }
};

}  // namespace

Variable conv1d(const Variable& x, const Variable& weight, const Variable& bias,
                const Variable& context) {
  return apply_op(Conv1dOp{}, x, weight, bias, context);
}

Tensor conv1d_context(const Tensor& x, int64_t taps, const Tensor& context) {
  require(x.rank() == 3 && taps >= 1,
          "conv1d_context: x is {} and taps {}; wanted [batch, time, channels] and at least 1 tap",
          x, taps);
  const int64_t kept = taps - 1, time = x.size(1), fresh = std::min(kept, time);
  Tensor next = Tensor::zeros({x.size(0), kept, x.size(2)}, x.dtype(), x.device());
  require(!context || context.shape() == next.shape(), "conv1d_context: context is {}; wanted {}",
          context, next);
  const auto copy = [&](const Tensor& rows, Tensor to) {
    kernel::strided_copy(x.device(), {rows, false, to});
  };
  copy(x.slice(1, time - fresh, time), next.slice(1, kept - fresh, kept));
  if (context) copy(context.slice(1, fresh, kept), next.slice(1, 0, kept - fresh));
  return next;
}

}  // namespace reverie
