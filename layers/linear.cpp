#include "layers/linear.h"

#include <cmath>

#include "core/error.h"

namespace reverie {

Linear::Linear(int64_t in, int64_t out, const LinearOptions& options, const Build& build)
    : layout_(options.layout) {
  const Shape shape = layout_ == WeightLayout::out_in ? Shape{out, in} : Shape{in, out};
  weight_ = parameter("weight", build.weights(shape, options.stddev), ReadBy::matmul);
  if (options.bias) bias_ = parameter("bias", Tensor::zeros({out}, build.dtype, build.device));
}

Variable Linear::forward(const Variable& x) const {
  const Variable y = linear(x, weight_, bias_, layout_);
  if (!low_rank_a_) return y;
  return add(y, linear(scale(linear(x, low_rank_a_), low_rank_scale_), low_rank_b_));
}
Variable Linear::forward(const Variable& x, Unary f, ReadBy read_by) const {
  // The update comes before the activation, which then has its own pass.
  if (low_rank_a_) return unary(f, forward(x));
  return linear_activation(f, x, weight_, bias_, layout_, read_by);
}
void Linear::add_low_rank_update(int64_t rank, double scale, const Build& build) {
  require(!low_rank_a_, "this linear layer has a low-rank update already");
  require(rank >= 1, "a low-rank update of rank {}; wanted 1 or more", rank);
  const Shape& s = weight_.shape();
  const bool rows_are_outputs = layout_ == WeightLayout::out_in;
  const int64_t in = s[rows_are_outputs ? 1 : 0], out = s[rows_are_outputs ? 0 : 1];
  low_rank_a_ =
      parameter("lora_a", build.weights({rank, in}, 1 / std::sqrt(double(in))), ReadBy::matmul);
  low_rank_b_ =
      parameter("lora_b", Tensor::zeros({out, rank}, build.dtype, build.device), ReadBy::matmul);
  low_rank_scale_ = scale;
}

void add_low_rank_updates(Module& module, int64_t rank, double alpha, const Build& build) {
  module.each([&](Module& m) {
    if (auto* layer = dynamic_cast<Linear*>(&m))
      layer->add_low_rank_update(rank, alpha / double(rank), build);
  });
}

NormLayer::NormLayer(Norm kind, int64_t features, bool bias, double eps, const Build& build)
    : kind_(kind), eps_(eps) {
  weight_ = parameter("weight", Tensor::full({features}, 1, build.dtype, build.device));
  if (bias) bias_ = parameter("bias", Tensor::zeros({features}, build.dtype, build.device));
}
Variable NormLayer::forward(const Variable& x, ReadBy read_by) const {
  return kind_ == Norm::layer ? layer_norm(x, weight_, bias_, eps_, read_by)
                              : rms_norm(x, weight_, eps_, read_by);
}

}  // namespace reverie
