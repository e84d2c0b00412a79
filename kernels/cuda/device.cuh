#pragma once
// What kernels are written in, for nvcc and for the emulation alike: CUDA's names, shared memory,
// sums over warps and blocks, access to memory 16 bytes at a time, number types. The only place of
// inline PTX.
//
// Kernels have one-dimensional blocks of whole warps. All threads of a warp reach each warp
// function, and all of a block each barrier; a thread that has nothing to do goes along.

#include <cstdint>

#include "core/host_device.h"
#include "kernels/fmath.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
// An array of the block: name[i] reads and writes, and nothing takes its address.
#define REVERIE_SHARED(T, name, count) __shared__ T name[count]
#else
#include "kernels/cuda/emulation/emulation.h"
#include "kernels/cuda/emulation/shared.h"
#define REVERIE_SHARED(T, name, count) \
  static char name##_tag;              \
  const ::reverie::cuda::emulation::Shared<T> name(&name##_tag, #name, count)
#endif

namespace reverie::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_number() {
  return int(threadIdx.x) % kWarpSize;
}
__device__ inline int warp_number() {
  return int(threadIdx.x) / kWarpSize;
}

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN stays where it is first met.
struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

// f over the values of all lanes, the same in each.
template <class T, class F>
__device__ T over_warp(T value, F f) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2)
    value = f(value, __shfl_xor_sync(kAllLanes, value, mask));
  return value;
}
// f over the values of all threads of the block, the same in each; `nothing`: what changes no
// value.
template <class T, class F>
__device__ T over_block(T value, F f, T nothing) {
  REVERIE_SHARED(T, of_warp, kWarpSize);
  value = over_warp(value, f);
  const int warps = int(blockDim.x) / kWarpSize;
  if (warps == 1) return value;
  if (lane_number() == 0) of_warp[warp_number()] = value;
  __syncthreads();
  const int lane = lane_number();
  value = lane < warps ? T(of_warp[lane]) : nothing;
  __syncthreads();  // the array serves the next call, too
  return over_warp(value, f);
}

// N numbers that lie together.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T at[N];
};
// As many as 16 bytes hold of the widest of the types.
template <class... T>
inline constexpr int kPackOf = [] {
  size_t widest = 1;
  ((widest = sizeof(T) > widest ? sizeof(T) : widest), ...);
  return int(16 / widest);
}();

// x[0 .. N), or where fewer are left, those and zeros. kWhole: x lies on a boundary of packs.
template <bool kWhole, int N, class T>
__device__ Pack<T, N> load(const T* x, int64_t left) {
  if constexpr (kWhole) {
    if (left >= N) return *reinterpret_cast<const Pack<T, N>*>(x);
  }
  Pack<T, N> p;
  for (int k = 0; k < N; ++k) p.at[k] = k < left ? x[k] : T(0);
  return p;
}
template <bool kWhole, int N, class T>
__device__ void store(T* x, const Pack<T, N>& p, int64_t left) {
  if constexpr (kWhole) {
    if (left >= N) {
      *reinterpret_cast<Pack<T, N>*>(x) = p;
      return;
    }
  }
  for (int k = 0; k < N; ++k)
    if (k < left) x[k] = p.at[k];
}

// The bits of x in bf16, rounded to nearest even; NaN stays NaN.
__device__ inline uint16_t bf16_bits(float x) {
#if defined(__CUDA_ARCH__)
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return x == x ? bits : uint16_t((fmath::bits_of(x) | 0x400000u) >> 16);  // the CPU's NaN
#else
  const uint32_t u = fmath::bits_of(x);
  const uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u), quiet = u | 0x400000u;
  return uint16_t(((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) >> 16);
#endif
}
__device__ inline float float_of_bf16(uint16_t bits) {
  return fmath::float_of(uint32_t(bits) << 16);
}

// x as an element of type Out: itself, or the bits of a bf16.
template <class Out, class T>
__device__ Out stored(T x) {
  if constexpr (sizeof(Out) == 2)
    return bf16_bits(x);
  else
    return Out(x);
}

}  // namespace reverie::cuda
