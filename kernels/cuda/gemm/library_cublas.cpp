#include "kernels/cuda/gemm/library_cublas.h"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace reverie::cuda {
namespace {

// dlopen()'s handle; `refusals` gets one line for each file that does not open.
void* open_library(std::string& refusals) {
  std::vector<std::string> files = {fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR),
                                    "libcublasLt.so.13", "libcublasLt.so.12"};
#ifdef REVERIE_CUBLASLT_FILE
  files.push_back(REVERIE_CUBLASLT_FILE);
#endif
  for (const std::string& file : files) {
    if (void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    refusals += fmt::format("\n  {}", ::dlerror());
  }
  return nullptr;
}

template <class F>
void find(void* handle, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(handle, name));
  if (function == nullptr)
    throw MachineError(fmt::format("cublasLt: the library that was opened has no {}", name));
}

CublasLibrary opened() {
  std::string refusals;
  void* handle = open_library(refusals);
  if (handle == nullptr)
    throw MachineError(
        fmt::format("products on device cuda need cublasLt of CUDA 12 or 13, and none opens:{}\n"
                    "Add the folder that holds it to LD_LIBRARY_PATH: lib64 of the CUDA toolkit, "
                    "or nvidia/cu13/lib or nvidia/cublas/lib of a Python with PyTorch",
                    refusals));
  CublasLibrary l{};
  find(handle, "cublasLtCreate", l.create);
  find(handle, "cublasLtGetStatusString", l.status_string);
  find(handle, "cublasLtMatrixLayoutCreate", l.layout_create);
  find(handle, "cublasLtMatrixLayoutDestroy", l.layout_destroy);
  find(handle, "cublasLtMatrixLayoutSetAttribute", l.layout_set);
  find(handle, "cublasLtMatmulDescCreate", l.product_create);
  find(handle, "cublasLtMatmulDescDestroy", l.product_destroy);
  find(handle, "cublasLtMatmulDescSetAttribute", l.product_set);
  find(handle, "cublasLtMatmulPreferenceCreate", l.preference_create);
  find(handle, "cublasLtMatmulPreferenceDestroy", l.preference_destroy);
  find(handle, "cublasLtMatmulPreferenceSetAttribute", l.preference_set);
  find(handle, "cublasLtMatmulAlgoGetHeuristic", l.choose);
  find(handle, "cublasLtMatmul", l.multiply);
  return l;
}

}  // namespace

const CublasLibrary& cublas() {
  static const CublasLibrary library = opened();  // the handle is never closed
  return library;
}

}  // namespace reverie::cuda
