#include "autograd/ops/elementwise.h"

#include "autograd/ops/tensors.h"
#include "core/random.h"
#include "kernels/reduce.h"

namespace reverie {
namespace {

struct UnaryOp {
  static constexpr std::string_view name = "unary";
  Unary f;
  Tensor forward(Context& ctx, const Tensor& x) {
    Tensor y = empty_like(x);
    kernel::unary_forward(x.device(), {f, x, y});
    ctx.save({x});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    Tensor grad_x = empty_like(grad_y);
    kernel::unary_backward(grad_y.device(), {f, ctx.saved(0), grad_y, grad_x});
    return {grad_x};
  }
};

// a seen as [outer, middle, inner], b as [middle].
struct Broadcast {
  int64_t outer = 1, middle = 1, inner = 1;
};

Broadcast broadcast_of(const Shape& a, const Shape& b) {
  const int shift = a.rank() - b.rank();
  bool fits = shift >= 0;
  Broadcast r;
  int phase = 0;  // 0: before, 1: inside, 2: after b's own sizes
  for (int i = 0; fits && i < a.rank(); ++i) {
    const int64_t d = i < shift ? 1 : b[i - shift];
    if (d == a[i] && d != 1) {
      fits = phase < 2;
      phase = 1;
      r.middle *= d;
    } else if (d == 1) {
      if (phase == 1 && a[i] != 1) phase = 2;
      (phase == 0 ? r.outer : r.inner) *= a[i];
    } else {
      fits = false;
    }
  }
  require(fits, "binary: b is {}; wanted a's shape {}, or sizes 1 around one run of a's sizes", b,
          a);
  return r;
}

struct BinaryOp {
  static constexpr std::string_view name = "binary";
  Binary f;
  Broadcast shape;
  Tensor forward(Context& ctx, const Tensor& a, const Tensor& b) {
    shape = broadcast_of(a.shape(), b.shape());
    Tensor y = empty_like(a);
    kernel::binary_forward(a.device(), {f, a, b, y, shape.outer, shape.inner});
    b_shape = b.shape();
    if (f == Binary::multiply) ctx.save({ctx.needs(1) ? a : Tensor(), ctx.needs(0) ? b : Tensor()});
    return y;
  }
  Shape b_shape;
  // Sum over what b was repeated along.
  Tensor reduce(const Tensor& grad, double factor) const {
    Tensor rows = Tensor::empty({shape.outer, shape.middle}, grad.dtype(), grad.device());
    kernel::sum_forward(grad.device(),
                        {grad, shape.outer * shape.middle, shape.inner, 1, factor, false, rows});
    if (shape.outer == 1) return rows.view(b_shape);
    Tensor total = Tensor::empty({shape.middle}, grad.dtype(), grad.device());
    kernel::sum_forward(grad.device(), {rows, 1, shape.outer, shape.middle, 1.0, false, total});
    return total.view(b_shape);
  }
  bool repeated() const { return shape.outer * shape.inner > 1; }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    switch (f) {
      case Binary::add:
        return of_sum(ctx, grad_y, 1);
      case Binary::subtract:
        return of_sum(ctx, grad_y, -1);
      case Binary::multiply:
        return of_product(ctx, grad_y);
    }
    no_case_for("binary function", int(f));
  }
  // The gradients of a + sign * b.
  Grads of_sum(const Context& ctx, const Tensor& grad_y, double sign) const {
    Grads grads(2);
    if (ctx.needs(0)) grads[0] = grad_y;
    if (ctx.needs(1)) {
      const bool as_it_is = !repeated() && sign > 0 && b_shape == grad_y.shape();
      grads[1] = as_it_is ? grad_y : reduce(grad_y, sign);
    }
    return grads;
  }
  Grads of_product(const Context& ctx, const Tensor& grad_y) const {
    Grads grads(2);
    if (ctx.needs(0)) {
      grads[0] = empty_like(grad_y);
      kernel::binary_forward(grad_y.device(), {Binary::multiply, grad_y, ctx.saved(1), grads[0],
                                               shape.outer, shape.inner});
    }
    if (ctx.needs(1)) {
      Tensor product = empty_like(grad_y);
      kernel::binary_forward(grad_y.device(),
                             {Binary::multiply, grad_y, ctx.saved(0), product, 1, 1});
      grads[1] = repeated() ? reduce(product, 1.0) : product.view(b_shape);
    }
    return grads;
  }
};

struct AffineOp {
  static constexpr std::string_view name = "affine";
  double factor, shift;
  Tensor forward(Context&, const Tensor& x) {
    Tensor y = empty_like(x);
    kernel::affine(x.device(), Affine{x, factor, shift, y});
    return y;
  }
  Grads backward(Context&, const Tensor& grad_y) {
    Tensor grad_x = empty_like(grad_y);
    kernel::affine(grad_y.device(), Affine{grad_y, factor, 0.0, grad_x});
    return {grad_x};
  }
};

struct BiasActivationOp {
  static constexpr std::string_view name = "bias_activation";
  Unary f;
  Tensor forward(Context& ctx, const Tensor& x, const Tensor& bias) {
    Tensor y = empty_like(x);
    Tensor slope = ctx.needs(0) || ctx.needs(1) ? empty_like(x) : Tensor();
    kernel::bias_activation_forward(x.device(), {f, rows(x), bias, y, slope ? &slope : nullptr});
    ctx.save({kept(ctx, slope)});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const Tensor slope = restored(ctx.saved(0), grad_y.dtype());
    Tensor grad_x = empty_like(slope);
    kernel::bias_activation_backward(slope.device(), {slope, grad_y, grad_x});
    Grads grads(2);
    if (ctx.needs(1)) grads[1] = column_sum(ctx, 1, grad_x);
    if (ctx.needs(0)) grads[0] = grad_x;
    return grads;
  }
};

struct GatedOp {
  static constexpr std::string_view name = "gated";
  Unary f;
  Tensor forward(Context& ctx, const Tensor& gate, const Tensor& up) {
    Tensor y = empty_like(gate);
    kernel::gated_forward(gate.device(), {f, gate, up, y});
    ctx.save({kept(ctx, gate), kept(ctx, up)});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const Tensor gate = restored(ctx.saved(0), grad_y.dtype()),
                 up = restored(ctx.saved(1), grad_y.dtype());
    Tensor grad_gate = reused(grad_y), grad_up = reused(up);
    kernel::gated_backward(grad_y.device(), {f, gate, up, grad_y, grad_gate, grad_up});
    return {grad_gate, grad_up};
  }
};

struct DropoutOp {
  static constexpr std::string_view name = "dropout";
  double p;
  uint64_t seed, offset;
  Tensor map(const Tensor& x) const {
    Tensor y = empty_like(x);
    kernel::dropout(x.device(), Dropout{x, p, seed, offset, y});
    return y;
  }
  Tensor forward(Context&, const Tensor& x) { return map(x); }
  Grads backward(Context&, const Tensor& grad_y) { return {map(grad_y)}; }
};

}  // namespace

Variable unary(Unary f, const Variable& x) {
  return apply_op(UnaryOp{f}, x);
}
Variable binary(Binary f, const Variable& a, const Variable& b) {
  return apply_op(BinaryOp{f, {}, {}}, a, b);
}
Variable affine(const Variable& x, double factor, double shift) {
  return apply_op(AffineOp{factor, shift}, x);
}
Variable bias_activation(Unary f, const Variable& x, const Variable& bias) {
  return apply_op(BiasActivationOp{f}, x, bias);
}
Variable gated(Unary f, const Variable& gate, const Variable& up) {
  return apply_op(GatedOp{f}, gate, up);
}
Variable dropout(const Variable& x, double p) {
  if (p == 0) return x;
  Generator& g = default_generator();
  const uint64_t offset = g.reserve(uint64_t(x.tensor().numel()));
  return apply_op(DropoutOp{p, g.seed(), offset}, x);
}

}  // namespace reverie
