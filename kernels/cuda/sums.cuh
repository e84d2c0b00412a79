#pragma once
// Sums of many rows in two steps: chunks of them side by side, then the chunks in order. The order
// depends on sizes alone.

#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {

// Rows of a chunk: at most 64 chunks of at least 16 rows.
inline int64_t rows_per_chunk(int64_t rows) {
  return std::max<int64_t>(16, (rows + 63) / 64);
}

// y[o, i] = (y[o, i] +) scale * sum over c of partial[o, c, i].
template <class T, class Out>
__global__ void add_chunks(const T* partial, int64_t outer, int64_t chunks, int64_t inner,
                           double scale, bool accumulate, Out* y) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < outer * inner; n += step) {
    const T* from = partial + n / inner * chunks * inner + n % inner;
    double total = 0;
    for (int64_t c = 0; c < chunks; ++c) total += double(from[c * inner]);
    y[n] = Out((accumulate ? double(y[n]) : 0.0) + scale * total);
  }
}
template <class T, class Out>
void run_add_chunks(const T* partial, int64_t outer, int64_t chunks, int64_t inner, double scale,
                    bool accumulate, Out* y) {
  constexpr int kThreads = 128;
  Launch(blocks_for(outer * inner, kThreads), threads_for(outer * inner, kThreads))(
      add_chunks<T, Out>, partial, outer, chunks, inner, scale, accumulate, y);
}

}  // namespace reverie::cuda
