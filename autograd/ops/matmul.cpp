#include "autograd/ops/matmul.h"

#include "autograd/ops/tensors.h"
#include "autograd/precision.h"
#include "core/compact_weights.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace reverie {
namespace {

Tensor maybe_transposed(const Tensor& x, bool transpose) {
  return transpose ? x.transpose(-2, -1) : x;
}

struct MatmulOp {
  static constexpr std::string_view name = "matmul";
  bool transpose_a, transpose_b;
  double alpha;
  Tensor forward(Context& ctx, const Tensor& a, const Tensor& b) {
    require(a.rank() >= 2 && b.rank() >= 2,
            "matmul: a is {} and b is {}; wanted [M, K] [K, N], [B, M, K] [B, K, N] or [B, M, K] "
            "[K, N]",
            a, b);
    const Tensor x = maybe_transposed(a, transpose_a), y = maybe_transposed(b, transpose_b);
    Shape shape = x.shape();
    shape[-1] = y.size(-1);
    Tensor c = Tensor::empty(shape, a.dtype(), a.device());
    kernel::matmul(a.device(), Matmul{x, y, alpha, false, c});
    ctx.save({ctx.needs(1) ? a : Tensor(), ctx.needs(0) ? b : Tensor()});
    a_shape = a.shape();
    b_shape = b.shape();
    return c;
  }
  Shape a_shape, b_shape;
  Grads backward(Context& ctx, const Tensor& g) {
    Grads grads(2);
    if (ctx.needs(0)) {
      const Tensor b = maybe_transposed(ctx.saved(1), transpose_b);
      grads[0] = Tensor::empty(a_shape, g.dtype(), g.device());
      if (!transpose_a)
        kernel::matmul(g.device(), Matmul{g, b.transpose(-2, -1), alpha, false, grads[0]});
      else if (g.rank() == 3 &&
               b.rank() == 2) {  // a^T with a shared b: grad_a = b g^T has its batch on the right
        Tensor t = Tensor::empty({g.size(0), a_shape[2], a_shape[1]}, g.dtype(), g.device());
        kernel::matmul(g.device(), Matmul{g, b.transpose(-2, -1), alpha, false, t});
        grads[0] = t.transpose(-2, -1);
      } else
        kernel::matmul(g.device(), Matmul{b, g.transpose(-2, -1), alpha, false, grads[0]});
    }
    if (ctx.needs(1)) {
      Tensor a = maybe_transposed(ctx.saved(0), transpose_a), gy = g;
      if (a.rank() == 3 &&
          b_shape.rank() == 2) {  // b was shared by the batch: one product over all rows
        a = contiguous(a).view({-1, a.size(-1)});
        gy = g.view({-1, g.size(-1)});
      }
      grads[1] = Tensor::empty(b_shape, g.dtype(), g.device());
      if (transpose_b)
        kernel::matmul(g.device(), Matmul{gy.transpose(-2, -1), a, alpha, false, grads[1]});
      else
        kernel::matmul(g.device(), Matmul{a.transpose(-2, -1), gy, alpha, false, grads[1]});
    }
    return grads;
  }
};

// The products of a linear layer and of their backward pass, for the ops below; x is input 0 of the
// op, the weight input 1 and the bias input 2.
struct LinearProducts {
  WeightLayout layout;
  MatmulPrecision precision = matmul_precision();
  Shape x_shape{}, weight_shape{};

  // x W (+ bias), and what backward wants of x and W: each undefined where it wants nothing.
  struct Result {
    Tensor y, x, weight;
  };
  Result forward(const Context& ctx, const Tensor& given_x, const Tensor& given_weight,
                 const Tensor& bias = {}) {
    const Tensor x = rounded_for(precision, given_x), weight = rounded_for(precision, given_weight);
    const bool out_in = layout == WeightLayout::out_in;
    const std::string_view wanted = out_in ? "[out, in]" : "[in, out]";
    require(weight.rank() == 2, "linear: the weight is {}; wanted {}", weight, wanted);
    const Tensor w = maybe_transposed(weight, out_in);  // [in, out]
    require(x.rank() >= 1 && x.size(-1) == w.size(0),
            "linear: x is {}; wanted [.., {}] to go with the weight {} {}", x, w.size(0), weight,
            wanted);
    Shape shape = x.shape();
    shape[-1] = w.size(1);
    Result r{Tensor::empty(shape, given_weight.dtype(), x.device()), {}, {}};
    Tensor y_rows = rows(r.y);
    if (bias)
      kernel::linear_forward(x.device(), {rows(x), w, bias, y_rows});
    else
      kernel::matmul(x.device(), Matmul{rows(x), w, 1.0, false, y_rows});
    if (ctx.needs(1)) r.x = x;
    // Compact weights are rounded again: their copies in bf16 would be most of a step's memory.
    if (ctx.needs(0)) r.weight = is_compact(given_weight) ? given_weight : weight;
    x_shape = x.shape();
    weight_shape = weight.shape();
    return r;
  }
  // Gradients of x, W and the bias from the cotangent of x W, which may have been rounded before
  // where the bias wants none: sums want it in full.
  void backward(Context& ctx, const Tensor& given_g, const Tensor& x, const Tensor& weight,
                DType dtype, Grads& grads) const {
    if (ctx.needs(2) && !ctx.needs(1)) grads[2] = column_sum(ctx, 2, rows(given_g));
    if (!ctx.needs(0) && !ctx.needs(1)) return;
    const Tensor g = rows(rounded_for(precision, given_g));
    const Device device = g.device();
    // Of W, [in, out] or [out, in]: left^T right.
    bool add = false;
    Tensor left, right, *grad_weight = nullptr;
    if (ctx.needs(1)) {
      const bool in_out = layout == WeightLayout::in_out;
      left = (in_out ? rows(x) : g).transpose(0, 1);
      right = in_out ? g : rows(x);
      grad_weight = ctx.leaf_grad(1, add);
      if (grad_weight == nullptr) {
        grads[1] = Tensor::empty(weight_shape, dtype, device);
        grad_weight = &grads[1];
      }
    }
    // Of x: g W^T, added to what other readers of x have made (as the projections to keys and
    // values do before the one to queries).
    Tensor w, grad_rows;
    bool adds = false;
    if (ctx.needs(0)) {
      // [out, in]
      w = maybe_transposed(rounded_for(precision, weight), layout == WeightLayout::in_out);
      Tensor* sum = ctx.sum_so_far(0);
      adds = sum != nullptr && sum->dtype() == dtype;
      if (!adds) grads[0] = Tensor::empty(x_shape, dtype, device);
      grad_rows = rows(adds ? *sum : grads[0]);
    }
    const Matmul of_x{g, w, 1.0, adds, grad_rows};
    if (!ctx.needs(1)) return kernel::matmul(device, of_x);
    const Matmul of_weight{left, right, 1.0, add, *grad_weight};
    if (ctx.needs(2))
      with_bias(ctx, rows(given_g), of_weight, ctx.needs(0) ? &of_x : nullptr, grads);
    else if (ctx.needs(0))
      kernel::matmul_pair(device, {of_weight, of_x});
    else
      kernel::matmul(device, of_weight);
  }
  static void with_bias(Context& ctx, const Tensor& g, const Matmul& of_weight, const Matmul* of_x,
                        Grads& grads) {
    bool add = false;
    Tensor* grad_bias = ctx.leaf_grad(2, add);
    if (grad_bias == nullptr) {
      grads[2] = Tensor::empty({g.size(1)}, g.dtype(), g.device());
      grad_bias = &grads[2];
    }
    kernel::linear_backward(g.device(), {g, of_weight, of_x, add, *grad_bias});
  }
};

struct LinearOp {
  static constexpr std::string_view name = "linear";
  LinearProducts products;
  Tensor forward(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    auto r = products.forward(ctx, x, weight, bias);
    ctx.save({r.x, r.weight});
    return r.y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    Grads grads(3);
    products.backward(ctx, grad_y, ctx.saved(0), ctx.saved(1), grad_y.dtype(), grads);
    return grads;
  }
};

struct LinearActivationOp {
  static constexpr std::string_view name = "linear_activation";
  Unary f;
  ReadBy read_by;
  LinearProducts products;
  Tensor forward(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    auto r = products.forward(ctx, x, weight);
    Tensor y = Tensor::empty(r.y.shape(), stored_dtype(products.precision, read_by, r.y.dtype()),
                             r.y.device());
    // Backward wants the slope alone, which takes the place of what it was computed from.
    const bool wanted = ctx.needs(0) || ctx.needs(1) || ctx.needs(2);
    kernel::bias_activation_forward(y.device(), {f, rows(r.y), bias, y, wanted ? &r.y : nullptr});
    ctx.save({r.x, r.weight, wanted ? kept(ctx, r.y) : Tensor()});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    Grads grads(3);
    const Tensor slope = restored(ctx.saved(2), grad_y.dtype());
    // Sums want it in full.
    const ReadBy only = ctx.needs(2) ? ReadBy::any : ReadBy::matmul;
    Tensor g = Tensor::empty(slope.shape(), stored_dtype(products.precision, only, slope.dtype()),
                             slope.device());
    kernel::bias_activation_backward(g.device(), {slope, grad_y, g});
    products.backward(ctx, g, ctx.saved(0), ctx.saved(1), grad_y.dtype(), grads);
    return grads;
  }
};

}  // namespace

Variable matmul(const Variable& a, const Variable& b, bool transpose_a, bool transpose_b,
                double alpha) {
  return apply_op(MatmulOp{transpose_a, transpose_b, alpha, {}, {}}, a, b);
}
Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                WeightLayout layout) {
  return apply_op(LinearOp{{layout}}, x, weight, bias);
}
Variable linear_activation(Unary f, const Variable& x, const Variable& weight, const Variable& bias,
                           WeightLayout layout, ReadBy read_by) {
  return apply_op(LinearActivationOp{f, read_by, {layout}}, x, weight, bias);
}

}  // namespace reverie
