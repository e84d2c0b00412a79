#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {
namespace {

// Rows of heads in a [B, T, H, D] tensor.
struct Layout {
  int64_t batch, row, head;
};
Layout layout_of(const View& v) {
  return {v.stride[0], v.stride[1], v.stride[2]};
}

// A block for each row (b, t), a thread for each pair, which turns in all heads. y may be x.
template <class T>
__global__ void turn(const T* x, Layout from, const int32_t* positions, bool of_each_entry,
                     const double* frequencies, double sign, int64_t rows, int64_t time,
                     int64_t heads, int64_t half, T* y, Layout to) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t b = row / time, t = row % time;
    const double at = double(positions[of_each_entry ? row : t]);
    for (int64_t d = threadIdx.x; d < half; d += blockDim.x) {
      const double angle = at * frequencies[d];
      const T cosine = T(cos(angle)), sine = T(sign * sin(angle));
      for (int64_t h = 0; h < heads; ++h) {
        const T* in = x + b * from.batch + t * from.row + h * from.head;
        T* out = y + b * to.batch + t * to.row + h * to.head;
        const T low = in[d], high = in[d + half];
        out[d] = low * cosine - high * sine;
        out[d + half] = high * cosine + low * sine;
      }
    }
  }
}

void run_rope(const Rope& a) {
  const View x = view(a.x), y = writable(a.y), positions = view(a.positions),
             frequencies = view(a.frequencies);
  if (x.count == 0) return;
  const int64_t batch = x.size[0], time = x.size[1], half = x.size[3] / 2;
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Launch(blocks_for(batch * time, 1), threads_for(half))(
        turn<T>, pointer<const T>(x), layout_of(x), pointer<const int32_t>(positions),
        positions.rank == 2, pointer<const double>(frequencies), a.inverse ? -1.0 : 1.0,
        batch * time, time, x.size[2], half, pointer<T>(y), layout_of(y));
  });
}

REVERIE_CUDA_KERNEL(rope, run_rope);

}  // namespace
}  // namespace reverie::cuda
