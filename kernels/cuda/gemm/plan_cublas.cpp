#include "kernels/cuda/gemm/plan_cublas.h"

#include <algorithm>

#include "core/cuda.h"
#include "core/error.h"

namespace reverie::cuda {
namespace {

// Our rows are the library's columns, so that a row-major matrix is the transpose of itself: c^T =
// b^T a^T needs no copy.
Layout layout_of(const Tensor& t) {
  const int64_t rows = t.size(-2), columns = t.size(-1), row_stride = t.strides()[-2],
                column_stride = t.strides()[-1], batch_stride = t.rank() == 3 ? t.strides()[0] : 0;
  const auto places =
      uintptr_t(t.raw()) | uintptr_t(batch_stride * size_of(t.dtype())) | uintptr_t(16);
  const auto alignment = uint32_t(places & -places);  // the lowest bit
  if (column_stride == 1 || columns <= 1)
    return {false, std::max(row_stride, columns), batch_stride, alignment};
  return {true, std::max(column_stride, rows), batch_stride, alignment};
}

cudaDataType_t type_of(DType t) {
  return t == DType::f64 ? CUDA_R_64F : t == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// The library's A is our b, its B our a, and a column of its D a row of our c.
cublasLtEpilogue_t epilogue_of(Epilogue e) {
  switch (e) {
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::sums_of_a:
      return CUBLASLT_EPILOGUE_BGRADB;
    case Epilogue::sums_of_b:
      return CUBLASLT_EPILOGUE_BGRADA;
    case Epilogue::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

}  // namespace

void require_success(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw MachineError(fmt::format("cublasLt: {}: {}", what, cublas().status_string(status)));
}

Problem problem_of(const Matmul& args, Epilogue epilogue) {
  return {args.c.size(-2),   args.c.size(-1),
          args.a.size(-1),   args.c.rank() == 3 ? args.c.size(0) : 1,
          layout_of(args.a), layout_of(args.b),
          layout_of(args.c), args.a.dtype(),
          args.c.dtype(),    epilogue};
}

Matrix::Matrix(DType type, int64_t rows, int64_t columns, const Layout& l, int64_t batch) {
  require_success(
      cublas().layout_create(&layout_, type_of(type), uint64_t(rows), uint64_t(columns), l.stride),
      "describing a matrix");
  const int32_t count = int32_t(batch);
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, l.batch_stride);
}
template <class V>
void Matrix::set(cublasLtMatrixLayoutAttribute_t attribute, const V& value) {
  require_success(cublas().layout_set(layout_, attribute, &value, sizeof(value)),
                  "describing a batch");
}

Plan::Plan(cublasLtHandle_t handle, const Problem& p)
    : wide_(p.result == DType::f64),
      epilogue_(p.epilogue),
      left_(p.operands, p.b.transposed ? p.k : p.n, p.b.transposed ? p.n : p.k, p.b, p.batch),
      right_(p.operands, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m, p.a, p.batch),
      result_(p.result, p.n, p.m, p.c, p.batch) {
  require_success(
      cublas().product_create(&product_, wide_ ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                              wide_ ? CUDA_R_64F : CUDA_R_32F),
      "describing a product");
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (epilogue_ != Epilogue::none) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(epilogue_));
    // Not read here: an address that says how vectors will be aligned.
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, kVectorAlignment);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  require_success(cublas().preference_create(&preference), "choosing an algorithm");
  const size_t workspace = kWorkspace;
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    require_success(cublas().preference_set(preference, attribute, &value, sizeof(value)),
                    "choosing an algorithm");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.c.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.c.alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      cublas().choose(handle, product_, left_.get(), right_.get(), result_.get(), result_.get(),
                      preference, 1, &found, &count);
  cublas().preference_destroy(preference);
  if (count == 0 && epilogue_ != Epilogue::none) return;
  require_success(count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status, "choosing an algorithm");
  algorithm_ = found.algo;
}
template <class V>
void Plan::set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
  require_success(cublas().product_set(product_, attribute, &value, sizeof(value)),
                  "describing a product");
}

template <class Scalar>
void Plan::run_as(cublasLtHandle_t handle, const Matmul& args, void* workspace) const {
  const Scalar alpha = Scalar(args.alpha), beta = args.accumulate ? 1 : 0;
  void* c = args.c.mutable_raw();
  require_success(
      cublas().multiply(handle, product_, &alpha, args.b.raw(), left_.get(), args.a.raw(),
                        right_.get(), &beta, c, result_.get(), c, result_.get(), &*algorithm_,
                        workspace, kWorkspace, static_cast<cudaStream_t>(stream())),
      "a product");
}
void Plan::run(cublasLtHandle_t handle, const Matmul& args, void* vector, void* workspace) {
  if (epilogue_ != Epilogue::none) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
  if (wide_)
    run_as<double>(handle, args, workspace);
  else
    run_as<float>(handle, args, workspace);
}

}  // namespace reverie::cuda
