#include "autograd/ops/embedding.h"

#include "kernels/embedding.h"

namespace reverie {
namespace {

struct EmbeddingOp {
  static constexpr std::string_view name = "embedding";
  Tensor tokens;
  int64_t first_position;
  Shape table_shape, positions_shape;
  DType dtype = DType::f32;
  int64_t period() const { return tokens.size(-1); }
  Tensor forward(Context& ctx, const Tensor& table, const Tensor& positions) {
    require(tokens.rank() >= 1, "embedding: tokens is {}; wanted i32 [.., T]", tokens);
    require(table.rank() == 2, "embedding: table is {}; wanted [vocabulary, channels]", table);
    table_shape = table.shape();
    dtype = table.dtype();
    if (positions) positions_shape = positions.shape();
    Shape shape = tokens.shape();
    shape.push_back(table.size(1));
    Tensor y = Tensor::empty(shape, table.dtype(), table.device());
    kernel::embedding_forward(table.device(),
                              {tokens, table, positions, first_position, period(), y});
    ctx.save({tokens});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    ctx.saved(0);  // a loader that has overwritten the tokens is found out here
    Grads grads(2);
    // The kernel adds: into the leaf's own buffer if it holds something, else into zeros.
    Tensor targets[2];
    const Shape* shapes[2] = {&table_shape, &positions_shape};
    for (size_t i = 0; i < 2; ++i) {
      if (!ctx.needs(i)) continue;
      bool add = false;
      if (Tensor* buffer = ctx.leaf_grad(i, add)) {
        if (!add) buffer->fill(0);
        targets[i] = *buffer;
      } else {
        targets[i] = grads[i] = Tensor::zeros(*shapes[i], dtype, grad_y.device());
      }
    }
    kernel::embedding_backward(grad_y.device(),
                               {tokens, grad_y, first_position, period(), targets[0], targets[1]});
    return grads;
  }
};

}  // namespace

Variable embedding(const Tensor& tokens, const Variable& table, const Variable& positions,
                   int64_t first_position) {
  return apply_op(EmbeddingOp{tokens, first_position, {}, {}}, table, positions);
}

}  // namespace reverie
