#include "kernels/matmul.h"

#include "kernels/copy.h"

namespace reverie {

Tensor wide_operand(const Tensor& b) {
  if (b.device() == Device{} || !is_compact(b)) return b;
  const bool turned = !compact_rows(b);
  const Tensor narrow = as_bf16(turned ? b.transpose(-2, -1) : b);
  if (!narrow) return b;  // part of its rows: who reads its elements widens all of them
  Tensor wide = Tensor::empty(narrow.shape(), DType::f32, narrow.device());
  kernel::cast(narrow.device(), {narrow, wide});
  return turned ? wide.transpose(-2, -1) : wide;
}

}  // namespace reverie
