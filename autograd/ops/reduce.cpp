#include "autograd/ops/reduce.h"

#include "autograd/ops/tensors.h"
#include "kernels/softmax.h"

namespace reverie {
namespace {

// A tensor seen as [outer, dim, inner].
struct Split {
  int64_t outer = 1, dim = 1, inner = 1;
  Split(std::string_view op, const Shape& s, int at) {
    require(at >= -s.rank() && at < s.rank(), "{}: dim is {}; wanted {} <= dim < {} for x {}", op,
            at, -s.rank(), s.rank(), s);
    if (at < 0) at += s.rank();
    for (int i = 0; i < s.rank(); ++i) (i < at ? outer : i == at ? dim : inner) *= s[i];
  }
  Split() = default;
};

Shape without(const Shape& s, int at) {
  if (at < 0) at += s.rank();
  Shape r;
  for (int i = 0; i < s.rank(); ++i)
    if (i != at) r.push_back(s[i]);
  return r;
}

struct SumOp {
  static constexpr std::string_view name = "sum";
  int at;
  bool average;
  Split split;
  Shape before;
  double factor() const { return average ? 1.0 / double(std::max<int64_t>(1, split.dim)) : 1.0; }
  Tensor forward(Context&, const Tensor& x) {
    split = Split(name, x.shape(), at);
    before = x.shape();
    Tensor y = Tensor::empty(without(before, at), x.dtype(), x.device());
    kernel::sum_forward(x.device(), {x, split.outer, split.dim, split.inner, factor(), false, y});
    return y;
  }
  Grads backward(Context&, const Tensor& g) {
    Tensor grad = Tensor::empty(before, g.dtype(), g.device());
    kernel::repeat(g.device(), {g, split.outer, split.dim, split.inner, factor(), grad});
    return {grad};
  }
};

struct SumAllOp {
  static constexpr std::string_view name = "sum_all";
  Shape before;
  Tensor forward(Context&, const Tensor& x) {
    before = x.shape();
    Tensor y = Tensor::empty({1}, x.dtype(), x.device());
    kernel::sum_forward(x.device(), {x, 1, x.numel(), 1, 1.0, false, y});
    return y;
  }
  Grads backward(Context&, const Tensor& g) {
    Tensor grad = Tensor::empty(before, g.dtype(), g.device());
    kernel::repeat(g.device(), {g, 1, before.numel(), 1, 1.0, grad});
    return {grad};
  }
};

struct CumulativeSumOp {
  static constexpr std::string_view name = "cumulative_sum";
  int at;
  Split split;
  Tensor forward(Context&, const Tensor& x, const Tensor& initial) {
    split = Split(name, x.shape(), at);
    require(!initial || initial.shape() == without(x.shape(), at),
            "cumulative_sum: initial is {}; wanted {}, which is x {} without dimension {}", initial,
            without(x.shape(), at), x, at);
    Tensor y = empty_like(x);
    kernel::cumulative_sum(
        x.device(), CumulativeSum{x, split.outer, split.dim, split.inner, false, initial, y});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& g) {
    Grads grads(2);
    if (ctx.needs(0)) {
      grads[0] = empty_like(g);
      kernel::cumulative_sum(
          g.device(), CumulativeSum{g, split.outer, split.dim, split.inner, true, {}, grads[0]});
    }
    if (ctx.needs(1)) {
      grads[1] = Tensor::empty(without(g.shape(), at), g.dtype(), g.device());
      kernel::sum_forward(g.device(),
                          {g, split.outer, split.dim, split.inner, 1.0, false, grads[1]});
    }
    return grads;
  }
};

struct SoftmaxOp {
  static constexpr std::string_view name = "softmax";
  double scale;
  Tensor valid;
  Tensor forward(Context& ctx, const Tensor& x) {
    Tensor y = empty_like(x);
    kernel::softmax_forward(x.device(), {rows(x), scale, valid, y});
    ctx.save({y});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& g) {
    Tensor grad = empty_like(g);
    kernel::softmax_backward(g.device(), {rows(ctx.saved(0)), g, scale, grad});
    return {grad};
  }
};

}  // namespace

Variable sum(const Variable& x, int dim) {
  return apply_op(SumOp{dim, false, {}, {}}, x);
}
Variable mean(const Variable& x, int dim) {
  return apply_op(SumOp{dim, true, {}, {}}, x);
}
Variable sum_all(const Variable& x) {
  return apply_op(SumAllOp{}, x);
}
Variable cumulative_sum(const Variable& x, int dim, const Variable& initial) {
  return apply_op(CumulativeSumOp{dim, {}}, x, initial);
}
Variable softmax(const Variable& x, double scale, const Tensor& valid) {
  return apply_op(SoftmaxOp{scale, valid}, x);
}

}  // namespace reverie
