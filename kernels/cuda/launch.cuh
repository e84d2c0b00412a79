#pragma once
// Launches, for nvcc and for the emulation alike, and what kernels' host sides share.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <source_location>

#include "core/cuda.h"
#include "core/error.h"
#include "core/tensor.h"
#include "kernels/cpu/view.h"
#include "kernels/cuda/device.cuh"
#include "kernels/kernel.h"

namespace reverie::cuda {

// A tensor as plain data, as the CPU's kernels see it.
using cpu::columns;
using cpu::pointer;
using cpu::rows;
using cpu::View;
using cpu::view;
using cpu::writable;

// Launch(blocks, threads)(kernel<T>, arguments...): asynchronous, on the core's stream.
class Launch {
 public:
  Launch(int64_t blocks, int threads, std::source_location where = std::source_location::current())
      : Launch(blocks, 1, threads, where) {}
  Launch(int64_t blocks_x, int64_t blocks_y, int threads,
         std::source_location where = std::source_location::current())
      : x_(blocks_x), y_(blocks_y), threads_(threads), where_(where) {
    if (x_ >= (int64_t(1) << 31) || y_ > 65535)
      throw InternalError(fmt::format("a grid of {} x {} blocks", x_, y_), where);
  }

  // So many bytes of shared memory for the kernel's REVERIE_DYNAMIC_SHARED.
  Launch& with_shared(size_t bytes) {
    dynamic_bytes_ = bytes;
    return *this;
  }

  template <class... P, class... A>
  void operator()(void (*kernel)(P...), const A&... arguments) const {
    if (x_ == 0 || y_ == 0) return;
    const dim3 blocks{unsigned(x_), unsigned(y_), 1};
#if defined(__CUDACC__)
    // More than 48 KiB must be asked for.
    if (dynamic_bytes_ > 0)
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           int(dynamic_bytes_));
    kernel<<<blocks, unsigned(threads_), dynamic_bytes_, static_cast<cudaStream_t>(stream())>>>(
        P(arguments)...);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
      throw MachineError(fmt::format("cuda: the launch at {}:{} failed: {}", where_.file_name(),
                                     where_.line(), cudaGetErrorString(error)));
#else
    emulation::launch(
        blocks, threads_, dynamic_bytes_, [&] { kernel(P(arguments)...); }, where_);
#endif
  }

 private:
  int64_t x_, y_;
  int threads_;
  size_t dynamic_bytes_ = 0;
  std::source_location where_;
};

// Threads of a block that shares out `items`: whole warps, no more than are of use.
inline int threads_for(int64_t items, int most = 256) {
  return int(std::min<int64_t>(
      most, std::max<int64_t>(1, (items + kWarpSize - 1) / kWarpSize) * kWarpSize));
}
// Blocks of a grid over `items` of `per_block` each. Kernels loop where there are more.
inline int64_t blocks_for(int64_t items, int64_t per_block, int64_t most = 65535) {
  return std::min(most, (items + per_block - 1) / per_block);
}

// Whether all of these lie on boundaries of 16 bytes (null does).
inline bool on_pack_boundaries(std::initializer_list<const void*> pointers) {
  return std::all_of(pointers.begin(), pointers.end(),
                     [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

// Working memory of a launch: freed when the tensor goes, after the work that was asked for before.
inline Tensor scratch(int64_t count, DType dtype) {
  return Tensor::empty({count}, dtype, Device{DeviceKind::cuda, 0});
}

template <bool kValue>
struct Choice {
  static constexpr bool value = kValue;
};
// body(Choice<condition>).
template <class Body>
void with_choice(bool condition, const Body& body) {
  if (condition)
    body(Choice<true>{});
  else
    body(Choice<false>{});
}
// body(T(0)) for T = float or double.
template <class Body>
void for_float(DType dtype, const Body& body) {
  if (dtype == DType::f32)
    body(0.0f);
  else
    body(0.0);
}
// body(T(0), Out(0)): T computes, Out is stored (bf16 as its bits).
template <class Body>
void for_float_into(DType dtype, DType out, const Body& body) {
  if (out == DType::bf16)
    body(0.0f, uint16_t(0));
  else
    for_float(dtype, [&](auto zero) { body(zero, zero); });
}

}  // namespace reverie::cuda

// In .cu files, inside namespace reverie::cuda.
#define REVERIE_CUDA_KERNEL(row, implementation)          \
  [[maybe_unused]] static const bool reverie_cuda_##row = \
      ::reverie::kernel::row.add_cuda(&implementation)
