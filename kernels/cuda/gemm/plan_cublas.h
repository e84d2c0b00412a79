#pragma once
/// How cuBLASLt makes the products of one shape.

#include <optional>

#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/gemm/library_cublas.h"

namespace reverie::cuda {

inline constexpr size_t kWorkspace = size_t(32) << 20;

/// MachineError where it is no success.
void require_success(cublasStatus_t status, const char* what);

/// A matrix as the library sees it: columns lie together, `stride` apart. alignment: of the first
/// element of each matrix of a batch, in bytes, at most 16; algorithms that read as much at once
/// want it.
struct Layout {
  bool transposed;
  int64_t stride, batch_stride;
  uint32_t alignment;
  auto operator<=>(const Layout&) const = default;
};

/// Key of a cuBLASLt plan: the properties that products with one plan share.
struct Problem {
  int64_t m, n, k, batch;  ///< of our c [m, n]
  Layout a, b, c;
  DType operands, result;
  Epilogue epilogue;
  auto operator<=>(const Problem&) const = default;
};
Problem problem_of(const Matmul&, Epilogue);

class Matrix {
 public:
  Matrix(DType type, int64_t rows, int64_t columns, const Layout& l, int64_t batch);
  ~Matrix() { cublas().layout_destroy(layout_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  template <class V>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const V& value);
  cublasLtMatrixLayout_t layout_ = nullptr;
};

/// A product of one shape, with the algorithm that the library's heuristic proposes for it.
class Plan {
 public:
  Plan(cublasLtHandle_t handle, const Problem& p);
  ~Plan() { cublas().product_destroy(product_); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Never false without an epilogue.
  bool possible() const { return algorithm_.has_value(); }
  /// `vector`: as multiply() has it; null without an epilogue.
  void run(cublasLtHandle_t handle, const Matmul& args, void* vector, void* workspace);

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, const V& value);
  template <class Scalar>
  void run_as(cublasLtHandle_t handle, const Matmul& args, void* workspace) const;

  bool wide_;  ///< f64
  Epilogue epilogue_;
  Matrix left_, right_, result_;
  cublasLtMatmulDesc_t product_ = nullptr;
  std::optional<cublasLtMatmulAlgo_t> algorithm_;
};

}  // namespace reverie::cuda
