// Matrix products by cuBLASLt.

#include <map>
#include <mutex>

#include "core/cuda.h"
#include "kernels/cuda/gemm/plan_cublas.h"

namespace reverie::cuda {
namespace {

// Plans are kept by shape: a training step asks for the same ones again and again.
struct Library {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  std::map<Problem, Plan> plans;
  Tensor workspace;

  Library() {
    require_success(cublas().create(&handle), "starting");
    workspace = Tensor::empty({int64_t(kWorkspace)}, DType::u8, Device{DeviceKind::cuda, 0});
  }
};

}  // namespace

bool multiply(const Matmul& args, Epilogue epilogue, Tensor vector) {
  static auto* library = new Library;  // never destroyed: the driver may go first
  const Problem p = problem_of(args, epilogue);
  const bool empty = args.c.numel() == 0 || p.k == 0;
  if (epilogue != Epilogue::none && (empty || p.result == DType::f64)) return false;
  if (empty) {
    // The library takes no empty matrices; an empty sum is zero.
    if (!args.accumulate && args.c.numel() > 0) args.c.fill(0);
    return true;
  }
  const std::lock_guard lock(library->mutex);
  Plan& plan = library->plans.try_emplace(p, library->handle, p).first->second;
  if (!plan.possible()) return false;
  plan.run(library->handle, args, begin_of(vector, epilogue), library->workspace.mutable_raw());
  return true;
}

}  // namespace reverie::cuda
