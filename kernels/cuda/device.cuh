#pragma once
// The language of kernels, for nvcc and for the emulation alike: CUDA's names, shared memory,
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
// The one array of a block whose size the launch says (Launch::with_shared): for what does not fit
// into the 48 KiB that other arrays share. On a boundary of 16 bytes.
#define REVERIE_DYNAMIC_SHARED(T, name, count) \
  extern __shared__ uint4 reverie_dynamic[];   \
  T* const name = reinterpret_cast<T*>(reverie_dynamic)
#else
#include "kernels/cuda/emulation/emulation.h"
#include "kernels/cuda/emulation/shared.h"
#define REVERIE_SHARED(T, name, count) \
  static char name##_tag;              \
  const ::reverie::cuda::emulation::Shared<T> name(&name##_tag, #name, count)
#define REVERIE_DYNAMIC_SHARED(T, name, count)                            \
  ::reverie::cuda::emulation::require_dynamic(sizeof(T) * size_t(count)); \
  REVERIE_SHARED(T, name, count)
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

// The number whose bits in half precision these are.
__device__ inline float float_of_half(uint16_t bits) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
#else
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = uint32_t(bits) >> 10 & 31u,
                 fraction = bits & 0x3ffu;
  if (exponent == 0) return fmath::float_of(fmath::bits_of(float(fraction) * 0x1p-24f) | sign);
  return fmath::float_of(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
#endif
}

// A product and a sum, each rounded by itself: nvcc joins a * b + c into one rounding.
__device__ inline float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
__device__ inline float rounded_sum(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

// x as an element of type Out: itself, or the bits of a bf16.
template <class Out, class T>
__device__ Out stored(T x) {
  if constexpr (sizeof(Out) == 2)
    return bf16_bits(x);
  else
    return Out(x);
}

// Two bf16 numbers in a word, the first in its low half.
__device__ inline uint32_t bf16_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return uint32_t(bf16_bits(first)) | uint32_t(bf16_bits(second)) << 16;
#endif
}

// Operands of tensor cores, spread over a warp as mma.m16n8k16 wants them (PTX ISA, "Matrix
// fragments for mma.m16n8k16"). Of lane 4 g + t:
struct Left {  // [16, 16]: pairs along a row; rows g, g + 8 from column 2 t, the same from 2 t + 8
  uint32_t at[4];
};
struct Right {  // [16, 8]: pairs down column g; from row 2 t, from 2 t + 8
  uint32_t at[2];
};
struct Product {  // [16, 8]: row g, columns 2 t and 2 t + 1; row g + 8, the same
  float at[4];
};

// product += left right, for all lanes of a warp.
__device__ inline void multiply_add(Product& product, const Left& left, const Right& right) {
#if defined(__CUDACC__)
  float(&c)[4] = product.at;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(left.at[0]), "r"(left.at[1]), "r"(left.at[2]), "r"(left.at[3]), "r"(right.at[0]),
        "r"(right.at[1]));
#else
  struct Offer {
    Left left;
    Right right;
  };
  const auto lanes = emulation::offer(Offer{left, right}, std::source_location::current());
  const int g = lane_number() / 4, t = lane_number() % 4;
  const auto number = [](uint32_t word, int half) {
    return float_of_bf16(uint16_t(half == 0 ? word : word >> 16));
  };
  for (int of_pair = 0; of_pair < 4; ++of_pair) {
    const Left row = lanes(4 * g + of_pair).left;
    const Right columns[2] = {lanes(8 * t + of_pair).right, lanes(8 * t + 4 + of_pair).right};
    for (int k = 0; k < 4; ++k)
      for (int i = 0; i < 4; ++i)
        product.at[i] +=
            number(row.at[k / 2 * 2 + i / 2], k % 2) * number(columns[i % 2].at[k / 2], k % 2);
  }
#endif
}

// Four [8, 8] matrices of bf16 from shared memory, for all lanes of a warp: rows of `stride` words
// (a multiple of 4) from word `first` of a tile, two matrices side by side and two below. to[i]:
// lane 4 g + t gets of matrix i row g, columns 2 t and 2 t + 1; transposed, column g, rows 2 t and
// 2 t
// + 1. Matrices are counted down first, or across first.
template <bool kDownFirst, bool kTransposed, class Tile>
__device__ void load_matrices(uint32_t (&to)[4], const Tile& tile, int first, int stride) {
#if defined(__CUDACC__)
  const int matrix = lane_number() / 8, down = kDownFirst ? matrix % 2 : matrix / 2,
            across = kDownFirst ? matrix / 2 : matrix % 2;
  const auto address = unsigned(__cvta_generic_to_shared(
      tile + first + (down * 8 + lane_number() % 8) * stride + across * 4));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
#else
  const int g = lane_number() / 4, t = lane_number() % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const int down = kDownFirst ? matrix % 2 : matrix / 2,
              across = kDownFirst ? matrix / 2 : matrix % 2,
              corner = first + down * 8 * stride + across * 4;
    if constexpr (kTransposed) {
      const auto number = [&](int row) {
        const uint32_t word = tile[corner + row * stride + g / 2];
        return g % 2 == 0 ? word & 0xffffu : word >> 16;
      };
      to[matrix] = number(2 * t) | number(2 * t + 1) << 16;
    } else {
      to[matrix] = tile[corner + g * stride + t];
    }
  }
#endif
}
// The [16, 16] part at `first` of a tile with rows of bf16 pairs.
template <class Tile>
__device__ Left load_left(const Tile& tile, int first, int stride) {
  Left left;
  load_matrices<true, false>(left.at, tile, first, stride);
  return left;
}
// Two operands [16, 8]: the [16, 16] part at `first`, transposed. Rows 0 .. 7 become the columns of
// the first.
template <class Tile>
__device__ void load_right_of_rows(Right (&right)[2], const Tile& tile, int first, int stride) {
  uint32_t words[4];
  load_matrices<false, false>(words, tile, first, stride);
  right[0] = {words[0], words[1]};
  right[1] = {words[2], words[3]};
}
// Two operands [16, 8]: the [16, 16] part at `first` as it lies, columns 0 .. 7 and 8 .. 15.
template <class Tile>
__device__ void load_right_of_columns(Right (&right)[2], const Tile& tile, int first, int stride) {
  uint32_t words[4];
  load_matrices<true, true>(words, tile, first, stride);
  right[0] = {words[0], words[1]};
  right[1] = {words[2], words[3]};
}

}  // namespace reverie::cuda
