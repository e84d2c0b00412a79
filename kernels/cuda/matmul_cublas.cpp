// Matrix products by cuBLASLt.

#include <cublasLt.h>

#include <map>
#include <mutex>
#include <tuple>

#include "core/cuda.h"
#include "core/error.h"
#include "kernels/matmul.h"

namespace reverie::cuda {
namespace {

constexpr size_t kWorkspace = size_t(32) << 20;

void require_success(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw MachineError(fmt::format("cublasLt: {}: {}", what, cublasLtGetStatusString(status)));
}

// A matrix as the library sees it: columns lie together, `stride` apart.
struct Layout {
  bool transposed;
  int64_t stride, batch_stride;
  auto operator<=>(const Layout&) const = default;
};
// Our rows are the library's columns, so that a row-major matrix is the transpose of itself: c^T =
// b^T a^T needs no copy.
Layout layout_of(const Tensor& t) {
  const int64_t rows = t.size(-2), columns = t.size(-1), row_stride = t.strides()[-2],
                column_stride = t.strides()[-1], batch_stride = t.rank() == 3 ? t.strides()[0] : 0;
  if (column_stride == 1 || columns <= 1)
    return {false, std::max(row_stride, columns), batch_stride};
  return {true, std::max(column_stride, rows), batch_stride};
}

struct Problem {
  int64_t m, n, k, batch;  // of our c [m, n]
  Layout a, b, c;
  DType operands, result;
  auto operator<=>(const Problem&) const = default;
};

cudaDataType_t type_of(DType t) {
  return t == DType::f64 ? CUDA_R_64F : t == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

class Matrix {
 public:
  Matrix(DType type, int64_t rows, int64_t columns, const Layout& l, int64_t batch) {
    require_success(cublasLtMatrixLayoutCreate(&layout_, type_of(type), uint64_t(rows),
                                               uint64_t(columns), l.stride),
                    "describing a matrix");
    const int32_t count = int32_t(batch);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, l.batch_stride);
  }
  ~Matrix() { cublasLtMatrixLayoutDestroy(layout_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  template <class V>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const V& value) {
    require_success(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof(value)),
                    "describing a batch");
  }
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// A product of one shape, with the algorithm that the library's heuristic proposes for it.
class Plan {
 public:
  Plan(cublasLtHandle_t handle, const Problem& p)
      : left_(p.operands, p.b.transposed ? p.k : p.n, p.b.transposed ? p.n : p.k, p.b, p.batch),
        right_(p.operands, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m, p.a, p.batch),
        result_(p.result, p.n, p.m, p.c, p.batch) {
    const bool wide = p.result == DType::f64;
    require_success(
        cublasLtMatmulDescCreate(&product_, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                 wide ? CUDA_R_64F : CUDA_R_32F),
        "describing a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    cublasLtMatmulPreference_t preference = nullptr;
    require_success(cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
    const size_t workspace = kWorkspace;
    // Tensors may begin anywhere that an element may.
    const uint32_t alignment = uint32_t(size_of(p.operands)),
                   alignment_of_result = uint32_t(size_of(p.result));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      require_success(
          cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
          "choosing an algorithm");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of_result);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of_result);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, product_, left_.get(), right_.get(), result_.get(),
                                       result_.get(), preference, 1, &found, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    require_success(count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status, "choosing an algorithm");
    algorithm_ = found.algo;
  }
  ~Plan() { cublasLtMatmulDescDestroy(product_); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <class Scalar>
  void run(cublasLtHandle_t handle, const Matmul& args, void* workspace) const {
    const Scalar alpha = Scalar(args.alpha), beta = args.accumulate ? 1 : 0;
    void* c = args.c.mutable_raw();
    require_success(
        cublasLtMatmul(handle, product_, &alpha, args.b.raw(), left_.get(), args.a.raw(),
                       right_.get(), &beta, c, result_.get(), c, result_.get(), &algorithm_,
                       workspace, kWorkspace, static_cast<cudaStream_t>(stream())),
        "a product");
  }

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    require_success(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof(value)),
                    "describing a product");
  }
  Matrix left_, right_, result_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
};

// Plans are kept by shape: a training step asks for the same ones again and again.
struct Library {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  std::map<Problem, Plan> plans;
  Tensor workspace;

  Library() {
    require_success(cublasLtCreate(&handle), "starting");
    workspace = Tensor::empty({int64_t(kWorkspace)}, DType::u8, Device{DeviceKind::cuda, 0});
  }
};

void run_matmul(const Matmul& args) {
  static auto* library = new Library;  // never destroyed: the driver may go first
  if (args.c.numel() == 0) return;
  const Problem p{args.c.size(-2),   args.c.size(-1),
                  args.a.size(-1),   args.c.rank() == 3 ? args.c.size(0) : 1,
                  layout_of(args.a), layout_of(args.b),
                  layout_of(args.c), args.a.dtype(),
                  args.c.dtype()};
  if (p.k == 0) {
    // An empty sum; the library takes no empty matrices.
    if (!args.accumulate) args.c.fill(0);
    return;
  }
  const std::lock_guard lock(library->mutex);
  const Plan& plan = library->plans.try_emplace(p, library->handle, p).first->second;
  void* workspace = library->workspace.mutable_raw();
  if (p.result == DType::f64)
    plan.run<double>(library->handle, args, workspace);
  else
    plan.run<float>(library->handle, args, workspace);
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
