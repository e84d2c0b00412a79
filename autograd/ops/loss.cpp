#include "autograd/ops/loss.h"

#include "autograd/ops/tensors.h"
#include "autograd/precision.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/softmax.h"

namespace reverie {
namespace {

struct CrossEntropyOp {
  static constexpr std::string_view name = "cross_entropy";
  Tensor targets;
  Tensor forward(Context& ctx, const Tensor& logits) {
    const int64_t n = rows(logits).size(0);
    Tensor loss = Tensor::empty(targets.shape(), logits.dtype(), logits.device());
    Tensor lse = Tensor::empty({n}, logits.dtype(), logits.device());
    kernel::cross_entropy_forward(logits.device(), {rows(logits), targets, loss, lse});
    ctx.save({logits, lse, targets});
    return loss;
  }
  Grads backward(Context& ctx, const Tensor& grad_loss) {
    const Tensor& logits = ctx.saved(0);
    Tensor grad = empty_like(logits);
    kernel::cross_entropy_backward(logits.device(),
                                   {rows(logits), ctx.saved(2), ctx.saved(1), grad_loss, grad});
    return {grad};
  }
};

// At most about 16 MiB of logits at a time, and enough rows for an efficient GEMM.
int64_t chunk_rows(int64_t n, int64_t vocabulary, DType t) {
  const int64_t budget = (int64_t(16) << 20) / (vocabulary * int64_t(size_of(t)));
  return std::min(n, std::max<int64_t>(budget, 64));
}

struct LinearCrossEntropyOp {
  static constexpr std::string_view name = "linear_cross_entropy";
  Tensor targets;
  double weight_per_target, cap;
  MatmulPrecision precision = matmul_precision();
  Tensor grad_hidden{}, grad_weight{};  // made in forward, for a cotangent of 1

  Tensor forward(Context& ctx, const Tensor& hidden, const Tensor& full_weight) {
    const Tensor h = rows(rounded_for(precision, hidden)), t = targets.view({-1}),
                 weight = wide_operand(rounded_for(precision, full_weight), h.dtype());
    const int64_t n = h.size(0);
    require(weight.rank() == 2 && weight.size(1) == h.size(1),
            "linear_cross_entropy: weight is {}; wanted [vocabulary, {}] to go with hidden {}",
            weight, h.size(1), hidden);
    require(
        t.numel() == n,
        "linear_cross_entropy: targets is {}; wanted {} elements, one for each row of hidden {}",
        targets, n, hidden);
    const int64_t vocabulary = weight.size(0);
    const Device device = hidden.device();
    const DType dtype = full_weight.dtype();
    const int64_t chunk = chunk_rows(n, vocabulary, dtype);
    Tensor logits = Tensor::empty({chunk, vocabulary}, dtype, device), capped = logits;
    if (cap != 0) capped = Tensor::empty(logits.shape(), dtype, device);
    Tensor losses = Tensor::empty({n}, dtype, device), lse = Tensor::empty({n}, dtype, device);
    const Tensor row_weights = Tensor::full({chunk}, weight_per_target, dtype, device);
    if (ctx.needs(0)) grad_hidden = Tensor::empty(hidden.shape(), dtype, device);
    if (ctx.needs(1)) grad_weight = empty_like(full_weight);
    for (int64_t begin = 0; begin < n; begin += chunk) {
      const int64_t end = std::min(n, begin + chunk);
      const Tensor part = h.slice(0, begin, end), part_targets = t.slice(0, begin, end);
      Tensor x = logits.slice(0, 0, end - begin), z = capped.slice(0, 0, end - begin),
             l = losses.slice(0, begin, end), s = lse.slice(0, begin, end);
      // With a cap c, x is u = logit / c and z is c tanh(u).
      kernel::matmul(device,
                     Matmul{part, weight.transpose(0, 1), cap != 0 ? 1 / cap : 1.0, false, x});
      if (cap != 0) {
        kernel::unary_forward(device, {Unary::tanh, x, z});
        kernel::affine(device, Affine{z, cap, 0.0, z});
      }
      kernel::cross_entropy_forward(device, {z, part_targets, l, s});
      if (!ctx.recording()) continue;
      kernel::cross_entropy_backward(device,
                                     {z, part_targets, s, row_weights.slice(0, 0, end - begin), z});
      if (cap != 0) kernel::unary_backward(device, {Unary::tanh, x, z, z});  // the two c cancel
      const Tensor g = rounded_for(precision, z);
      Tensor grad_part = grad_hidden ? rows(grad_hidden).slice(0, begin, end) : Tensor();
      const Tensor g_transposed = g.transpose(0, 1);
      if (grad_hidden && grad_weight)
        kernel::matmul_pair(device, {{g, weight, 1.0, false, grad_part},
                                     {g_transposed, part, 1.0, begin > 0, grad_weight}});
      else if (grad_hidden)
        kernel::matmul(device, Matmul{g, weight, 1.0, false, grad_part});
      else if (grad_weight)
        kernel::matmul(device, Matmul{g_transposed, part, 1.0, begin > 0, grad_weight});
    }
    Tensor loss = Tensor::empty({1}, dtype, device);
    kernel::sum_forward(device, {losses, 1, n, 1, weight_per_target, false, loss});
    return loss;
  }
  Grads backward(Context&, const Tensor& grad_loss) {
    const double cotangent = grad_loss.item();
    for (Tensor* g : {&grad_hidden, &grad_weight})
      if (*g && cotangent != 1) kernel::affine(g->device(), Affine{*g, cotangent, 0.0, *g});
    return {std::move(grad_hidden), std::move(grad_weight)};
  }
};

}  // namespace

Variable cross_entropy(const Variable& logits, const Tensor& targets) {
  return apply_op(CrossEntropyOp{targets}, logits);
}
Variable linear_cross_entropy(const Variable& hidden, const Variable& weight, const Tensor& targets,
                              double weight_per_target, double cap) {
  require(cap >= 0, "linear_cross_entropy: cap is {}; wanted 0 (none) or more", cap);
  return apply_op(LinearCrossEntropyOp{targets, weight_per_target, cap}, hidden, weight);
}

}  // namespace reverie
