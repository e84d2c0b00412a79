#include "autograd/ops/shape.h"

#include "autograd/ops/tensors.h"
#include "kernels/copy.h"

namespace reverie {
namespace {

struct ReshapeOp {
  static constexpr std::string_view name = "reshape";
  Shape shape, before;
  Tensor forward(Context&, const Tensor& x) {
    before = x.shape();
    return x.view(shape);
  }
  Grads backward(Context&, const Tensor& g) { return {g.view(before)}; }
};

struct TransposeOp {
  static constexpr std::string_view name = "transpose";
  int a, b;
  Tensor forward(Context&, const Tensor& x) { return x.transpose(a, b); }
  Grads backward(Context&, const Tensor& g) { return {g.transpose(a, b)}; }
};

struct SliceOp {
  static constexpr std::string_view name = "slice";
  int dim;
  int64_t begin, end;
  Shape before;
  Tensor forward(Context&, const Tensor& x) {
    before = x.shape();
    return x.slice(dim, begin, end);
  }
  Grads backward(Context&, const Tensor& g) {
    Tensor grad = Tensor::zeros(before, g.dtype(), g.device());
    Tensor part = grad.slice(dim, begin, end);
    kernel::strided_copy(g.device(), {g, false, part});
    return {grad};
  }
};

struct ConcatOp {
  static constexpr std::string_view name = "concat";
  int dim;
  std::vector<int64_t> sizes;
  Tensor forward(Context&, const std::vector<Tensor>& parts) {
    require(!parts.empty(), "concat wants at least one part");
    Shape shape = parts[0].shape();
    require(dim >= -shape.rank() && dim < shape.rank(),
            "concat: dim is {}; wanted {} <= dim < {} for parts like {}", dim, -shape.rank(),
            shape.rank(), parts[0]);
    shape[dim] = 0;
    for (const Tensor& p : parts) {
      Shape same = p.shape();
      require(same.rank() == shape.rank(), "concat: a part is {}; wanted the rank of part 0, {}", p,
              parts[0]);
      sizes.push_back(same[dim]);
      same[dim] = shape[dim];
      require(same == shape,
              "concat: a part is {}; wanted the sizes of part 0, {}, except along {}", p, parts[0],
              dim);
      shape[dim] += sizes.back();
    }
    Tensor y = Tensor::empty(shape, parts[0].dtype(), parts[0].device());
    int64_t at = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      Tensor part = y.slice(dim, at, at + sizes[i]);
      kernel::strided_copy(y.device(), {parts[i], false, part});
      at += sizes[i];
    }
    return y;
  }
  Grads backward(Context& ctx, const Tensor& g) {
    Grads grads(sizes.size());
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (ctx.needs(i)) grads[i] = g.slice(dim, at, at + sizes[i]);
      at += sizes[i];
    }
    return grads;
  }
};

struct ExpandOp {
  static constexpr std::string_view name = "expand";
  int dim;
  int64_t times;
  int64_t outer = 1, inner = 1;
  Shape before;
  Tensor forward(Context&, const Tensor& x) {
    require(dim >= 0 && dim < x.rank() && x.size(dim) == 1 && times > 0,
            "expand: x is {} and dim {}, {} times; wanted size 1 there, to repeat at least once", x,
            dim, times);
    before = x.shape();
    for (int i = 0; i < x.rank(); ++i) (i < dim ? outer : inner) *= x.size(i);
    Shape shape = before;
    shape[dim] = times;
    Tensor y = Tensor::empty(shape, x.dtype(), x.device());
    kernel::repeat(x.device(), {x, outer, times, inner, 1.0, y});
    return y;
  }
  Grads backward(Context&, const Tensor& g) {
    Tensor grad = Tensor::empty(before, g.dtype(), g.device());
    kernel::sum_forward(g.device(), {g, outer, times, inner, 1.0, false, grad});
    return {grad};
  }
};

}  // namespace

Variable reshape(const Variable& x, const Shape& shape) {
  return apply_op(ReshapeOp{shape, {}}, x);
}
Variable transpose(const Variable& x, int a, int b) {
  return apply_op(TransposeOp{a, b}, x);
}
Variable slice(const Variable& x, int dim, int64_t begin, int64_t end) {
  return apply_op(SliceOp{dim, begin, end, {}}, x);
}
Variable concat(const std::vector<Variable>& parts, int dim) {
  return apply_op(ConcatOp{dim, {}}, parts);
}
Variable expand(const Variable& x, int dim, int64_t times) {
  return apply_op(ExpandOp{dim < 0 ? dim + x.rank() : dim, times, 1, 1, {}}, x);
}

}  // namespace reverie
