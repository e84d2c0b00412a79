#include "autograd/ops/norm.h"

#include "autograd/ops/tensors.h"

namespace reverie {
namespace {

// What both forms share: the backward pass from the normalised input.
struct NormState {
  Norm kind;
  double eps;
  ReadBy read_by;

  void run(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
           Tensor& sum, Tensor& y, Tensor& mean, Tensor& rstd) const {
    require(!residual || residual.shape() == x.shape(),
            "residual_norm: residual is {}; wanted the shape of x {}", residual, x);
    const int64_t n = rows(x).size(0);
    y = Tensor::empty(x.shape(), stored_dtype(matmul_precision(), read_by, x.dtype()), x.device());
    mean = Tensor::empty({n}, x.dtype(), x.device());
    rstd = Tensor::empty({n}, x.dtype(), x.device());
    if (residual) sum = empty_like(x);
    kernel::norm_forward(x.device(),
                         {kind, rows(x), residual, weight, bias, eps, sum, y, mean, rstd});
  }
  // Gradients of x, weight, bias; weight and bias are inputs `first` and `first` + 1.
  Grads back(Context& ctx, const Tensor& kept_x, const Tensor& weight, const Tensor& mean,
             const Tensor& rstd, const Tensor& grad_y, const Tensor& grad_sum, bool want_x,
             size_t first) const {
    const Tensor x = restored(kept_x, rstd.dtype());
    Tensor grad_x, grad_weight, grad_bias;
    if (want_x) grad_x = empty_like(x);
    if (ctx.needs(first)) grad_weight = Tensor::empty({x.size(-1)}, x.dtype(), x.device());
    if (ctx.needs(first + 1)) grad_bias = Tensor::empty({x.size(-1)}, x.dtype(), x.device());
    kernel::norm_backward(x.device(), {kind, rows(x), weight, mean, rstd, grad_y, grad_sum, grad_x,
                                       grad_weight, grad_bias});
    return {grad_x, grad_weight, grad_bias};
  }
};

struct NormOp {
  static constexpr std::string_view name = "norm";
  NormState state;
  Tensor forward(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    Tensor sum, y, mean, rstd;
    state.run(x, {}, weight, bias, sum, y, mean, rstd);
    ctx.save({kept(ctx, x), weight, mean, rstd});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    return state.back(ctx, ctx.saved(0), ctx.saved(1), ctx.saved(2), ctx.saved(3), grad_y, {},
                      ctx.needs(0), 1);
  }
};

struct ResidualNormOp {
  static constexpr std::string_view name = "residual_norm";
  NormState state;
  std::vector<Tensor> forward(Context& ctx, const Tensor& x, const Tensor& residual,
                              const Tensor& weight, const Tensor& bias) {
    Tensor sum, y, mean, rstd;
    state.run(x, residual, weight, bias, sum, y, mean, rstd);
    ctx.save({kept(ctx, sum), weight, mean, rstd});
    return {sum, y};
  }
  Grads backward(Context& ctx, std::span<const Tensor> grads) {
    const Tensor &grad_sum = grads[0], &grad_y = grads[1];
    if (!grad_y) return {grad_sum, grad_sum, {}, {}};
    const bool want_x = ctx.needs(0) || ctx.needs(1);
    Grads g = state.back(ctx, ctx.saved(0), ctx.saved(1), ctx.saved(2), ctx.saved(3), grad_y,
                         grad_sum, want_x, 2);
    return {g[0], g[0], g[1], g[2]};
  }
};

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps,
                    ReadBy read_by) {
  return apply_op(NormOp{{Norm::layer, eps, read_by}}, x, weight, bias);
}
Variable rms_norm(const Variable& x, const Variable& weight, double eps, ReadBy read_by) {
  return apply_op(NormOp{{Norm::rms, eps, read_by}}, x, weight, Variable());
}
ResidualNorm residual_norm(Norm kind, const Variable& x, const Variable& residual,
                           const Variable& weight, const Variable& bias, double eps,
                           ReadBy read_by) {
  auto out = apply_op(ResidualNormOp{{kind, eps, read_by}}, x, residual, weight, bias);
  return {out[0], out[1]};
}

}  // namespace reverie
