#include "autograd/precision.h"

#include "kernels/copy.h"

namespace reverie {
namespace {

thread_local MatmulPrecision t_precision = MatmulPrecision::full;

}  // namespace

MatmulPrecision matmul_precision() {
  return t_precision;
}
MatmulPrecisionScope::MatmulPrecisionScope(MatmulPrecision p) : before_(t_precision) {
  t_precision = p;
}
MatmulPrecisionScope::~MatmulPrecisionScope() {
  t_precision = before_;
}

Tensor rounded_for(MatmulPrecision p, const Tensor& x) {
  if (p == MatmulPrecision::full || x.dtype() != DType::f32) return x;
  Tensor y = Tensor::empty(x.shape(), DType::bf16, x.device());
  kernel::cast(x.device(), {x, y});
  return y;
}

}  // namespace reverie
