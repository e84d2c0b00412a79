#include "autograd/precision.h"

#include "core/compact_weights.h"
#include "core/rounded_copy.h"
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

DType stored_dtype(MatmulPrecision p, ReadBy read_by, DType dtype) {
  return p == MatmulPrecision::bf16 && read_by == ReadBy::matmul && dtype == DType::f32
             ? DType::bf16
             : dtype;
}

Tensor rounded_for(MatmulPrecision p, const Tensor& x) {
  if (p == MatmulPrecision::full || x.dtype() != DType::f32) return x;
  if (const Tensor stored = as_bf16(x)) return stored;   // weights that a file has so
  if (const Tensor kept = rounded_copy(x)) return kept;  // trained weights, rounded for this step
  Tensor y = Tensor::empty(x.shape(), DType::bf16, x.device());
  kernel::cast(x.device(), {x, y});
  return y;
}

}  // namespace reverie
