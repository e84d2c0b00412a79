// Matrix products on the device.

#include "kernels/matmul.h"

#include "kernels/cuda/gemm/gemm.h"

namespace reverie::cuda {
namespace {

void run_matmul(const Matmul& args) {
  multiply({args.a, wide_operand(args.b), args.alpha, args.accumulate, args.c});
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
