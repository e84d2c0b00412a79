#include "kernels/copy.h"

#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256;

// Dimensions that lie together on both sides joined; those of one element left out.
struct Plan {
  int rank = 0;
  int64_t count = 1, size[kMaxRank], from[kMaxRank], to[kMaxRank];
};
Plan plan_of(const View& x, const View& y) {
  Plan p;
  p.count = x.count;
  for (int d = 0; d < x.rank; ++d) {
    if (x.size[d] == 1) continue;
    const int last = p.rank - 1;
    if (last >= 0 && p.from[last] == x.stride[d] * x.size[d] &&
        p.to[last] == y.stride[d] * x.size[d]) {
      p.size[last] *= x.size[d];
      p.from[last] = x.stride[d];
      p.to[last] = y.stride[d];
    } else {
      p.size[p.rank] = x.size[d];
      p.from[p.rank] = x.stride[d];
      p.to[p.rank] = y.stride[d];
      ++p.rank;
    }
  }
  return p;
}

template <bool kAccumulate, class T>
__global__ void copy_elements(Plan p, const T* x, T* y) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < p.count; i += step) {
    int64_t rest = i, from = 0, to = 0;
    for (int d = p.rank - 1; d >= 0; --d) {
      const int64_t at = rest % p.size[d];
      rest /= p.size[d];
      from += at * p.from[d];
      to += at * p.to[d];
    }
    if constexpr (kAccumulate)
      y[to] += x[from];
    else
      y[to] = x[from];
  }
}
template <bool kAccumulate, class T>
void run_copy(const Plan& p, const View& x, const View& y) {
  Launch(blocks_for(p.count, kThreads), kThreads)(copy_elements<kAccumulate, T>, p,
                                                  pointer<const T>(x), pointer<T>(y));
}

// Elements of twice the size where everything allows it, so that 16 bytes go at a time.
bool widen(Plan& p, const View& x, const View& y, size_t bytes) {
  if (p.rank == 0) return false;
  const auto aligned = [&](const View& v) {
    return reinterpret_cast<uintptr_t>(v.data) % (2 * bytes) == 0;
  };
  const int last = p.rank - 1;
  if (!aligned(x) || !aligned(y) || p.from[last] != 1 || p.to[last] != 1 || p.size[last] % 2 != 0)
    return false;
  for (int d = 0; d < last; ++d)
    if (p.from[d] % 2 != 0 || p.to[d] % 2 != 0) return false;
  for (int d = 0; d < last; ++d) {
    p.from[d] /= 2;
    p.to[d] /= 2;
  }
  p.size[last] /= 2;
  p.count /= 2;
  return true;
}

void run_strided_copy(const StridedCopy& a) {
  const View x = view(a.x), y = writable(a.y);
  Plan p = plan_of(x, y);
  if (a.accumulate) {
    for_float(x.dtype, [&](auto zero) { run_copy<true, decltype(zero)>(p, x, y); });
    return;
  }
  size_t bytes = size_of(x.dtype);
  while (bytes < 16 && widen(p, x, y, bytes)) bytes *= 2;
  switch (bytes) {
    case 16:
      return run_copy<false, Pack<uint32_t, 4>>(p, x, y);
    case 8:
      return run_copy<false, uint64_t>(p, x, y);
    case 4:
      return run_copy<false, uint32_t>(p, x, y);
    case 2:
      return run_copy<false, uint16_t>(p, x, y);
    default:
      return run_copy<false, uint8_t>(p, x, y);
  }
}

template <bool kWhole>
__global__ void narrow(int64_t count, const float* x, uint16_t* y) {
  constexpr int kPack = 4;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kPack;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; i < count; i += step) {
    const Pack<float, kPack> in = load<kWhole, kPack>(x + i, count - i);
    Pack<uint16_t, kPack> out;
    for (int k = 0; k < kPack; ++k) out.at[k] = bf16_bits(in.at[k]);
    store<kWhole, kPack>(y + i, out, count - i);
  }
}
template <bool kWhole>
__global__ void widen_to_float(int64_t count, const uint16_t* x, float* y) {
  constexpr int kPack = 4;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kPack;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; i < count; i += step) {
    const Pack<uint16_t, kPack> in = load<kWhole, kPack>(x + i, count - i);
    Pack<float, kPack> out;
    for (int k = 0; k < kPack; ++k) out.at[k] = float_of_bf16(in.at[k]);
    store<kWhole, kPack>(y + i, out, count - i);
  }
}
void run_cast(const Cast& a) {
  const View x = view(a.x), y = writable(a.y);
  with_choice(on_pack_boundaries({x.data, y.data}), [&](auto whole) {
    constexpr bool kWhole = decltype(whole)::value;
    const Launch launch(blocks_for(x.count, int64_t(kThreads) * 4), kThreads);
    if (x.dtype == DType::f32)
      launch(narrow<kWhole>, x.count, pointer<const float>(x), pointer<uint16_t>(y));
    else
      launch(widen_to_float<kWhole>, x.count, pointer<const uint16_t>(x), pointer<float>(y));
  });
}

REVERIE_CUDA_KERNEL(strided_copy, run_strided_copy);
REVERIE_CUDA_KERNEL(cast, run_cast);

}  // namespace
}  // namespace reverie::cuda
