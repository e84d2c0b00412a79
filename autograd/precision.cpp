#include "autograd/precision.h"

#include "core/compact_weights.h"
#include "core/rounded_copy.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"

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
  // Weights that a file has the other way round, perhaps written since.
  if (x.rank() == 2 && !x.is_contiguous() && x.transpose(0, 1).is_contiguous())
    return rounded_for(p, x.transpose(0, 1)).transpose(0, 1);
  if (const Tensor stored = as_bf16(x)) return stored;   // weights that a file has so
  if (const Tensor kept = rounded_copy(x)) return kept;  // trained weights, rounded for this step
  if (read_as_stored(x)) return x;
  Tensor y = Tensor::empty(x.shape(), DType::bf16, x.device());
  if (x.rank() == 2 && compact_rows(x))
    kernel::widen_rows(x.device(), {x, y});
  else
    kernel::cast(x.device(), {x, y});
  return y;
}

}  // namespace reverie
