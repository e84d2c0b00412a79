// Matrix products on the device.

#include "kernels/matmul.h"

#include "kernels/copy.h"
#include "kernels/cuda/gemm/gemm.h"

namespace reverie::cuda {

Tensor for_library(const Tensor& b) {
  if (!is_compact(b)) return b;
  const bool turned = !compact_rows(b);
  const Tensor narrow = as_bf16(turned ? b.transpose(-2, -1) : b);
  if (!narrow) return b;  // part of its rows, which its elements' reader widens
  Tensor wide = Tensor::empty(narrow.shape(), DType::f32, narrow.device());
  kernel::cast(narrow.device(), {narrow, wide});
  return turned ? wide.transpose(-2, -1) : wide;
}

namespace {

void run_matmul(const Matmul& args) {
  multiply({args.a, for_library(args.b), args.alpha, args.accumulate, args.c});
}
void run_matmul_pair(const MatmulPair& args) {
  run_matmul(args.first);
  run_matmul(args.second);
}

[[maybe_unused]] const bool reverie_cuda_matmul = kernel::matmul.add_cuda(&run_matmul);
[[maybe_unused]] const bool reverie_cuda_matmul_pair =
    kernel::matmul_pair.add_cuda(&run_matmul_pair);

}  // namespace
}  // namespace reverie::cuda
