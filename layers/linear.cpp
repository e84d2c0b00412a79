#include "layers/linear.h"

namespace reverie {

Linear::Linear(int64_t in, int64_t out, const LinearOptions& options, const Build& build)
    : layout_(options.layout) {
  const Shape shape = layout_ == WeightLayout::out_in ? Shape{out, in} : Shape{in, out};
  weight_ = parameter("weight", build.weights(shape, options.stddev));
  if (options.bias) bias_ = parameter("bias", Tensor::zeros({out}, build.dtype, build.device));
}

NormLayer::NormLayer(Norm kind, int64_t features, bool bias, double eps, const Build& build)
    : kind_(kind), eps_(eps) {
  weight_ = parameter("weight", Tensor::full({features}, 1, build.dtype, build.device));
  if (bias) bias_ = parameter("bias", Tensor::zeros({features}, build.dtype, build.device));
}
Variable NormLayer::forward(const Variable& x, Use use) const {
  return kind_ == Norm::layer ? layer_norm(x, weight_, bias_, eps_, use)
                              : rms_norm(x, weight_, eps_, use);
}

}  // namespace reverie
