#pragma once
/// A product on the device, with what the library can do in the same kernel: by cuBLASLt
/// (gemm_cublas.cpp), or by the CPU where the device is emulated (gemm_emulated.cpp).

#include "kernels/matmul.h"

namespace reverie::cuda {

/// Beside c = a b: bias adds `vector` [n] to each row of c; sums_of_a [m] and sums_of_b [n] write to
/// it the sums of a [m, k] and b [k, n] over k.
enum class Epilogue : uint8_t { none, bias, sums_of_a, sums_of_b };

/// Where `vector` must begin: the library's kernels read 16 bytes at a time, and no preference tells
/// it of less.
inline constexpr size_t kVectorAlignment = 16;

/// False, and nothing done, where the library cannot: then there is another way. `vector`:
/// contiguous, of c's dtype, on a boundary of kVectorAlignment; undefined without an epilogue.
bool multiply(const Matmul&, Epilogue = Epilogue::none, Tensor vector = {});
/// Where it begins. Counts as a write where the epilogue writes.
inline void* begin_of(Tensor& vector, Epilogue epilogue) {
  if (epilogue == Epilogue::none) return nullptr;
  return epilogue == Epilogue::bias ? const_cast<void*>(vector.raw()) : vector.mutable_raw();
}

}  // namespace reverie::cuda
