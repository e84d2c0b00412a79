// Matrix products on the device.

#include "kernels/matmul.h"

#include "kernels/cuda/compact_rows.h"
#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/gemm/panels.h"

namespace reverie::cuda {
namespace {

void run_matmul(const Matmul& args) {
  if (!multiply_few_rows(args) && !multiply_by_panels(args)) multiply(args);
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
