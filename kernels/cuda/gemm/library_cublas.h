#pragma once
/// cuBLASLt, opened when the first product asks for it: a program with CUDA kernels starts on machines that do not have it.

#include <cublasLt.h>

namespace reverie::cuda {

/// The library's functions that products use, under the names of cublasLt.h without `cublasLt`.
struct CublasLibrary {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulDescCreate) product_create;
  decltype(&cublasLtMatmulDescDestroy) product_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) product_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
  decltype(&cublasLtMatmul) multiply;
};

/// Looks for the major version of the build's headers, then for 13 and 12, in the folders of the dynamic linker, then where the
/// build found it. MachineError where there is none.
const CublasLibrary& cublas();

}  // namespace reverie::cuda
