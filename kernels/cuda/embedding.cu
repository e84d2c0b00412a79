#include "kernels/embedding.h"

#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {
namespace {

// A row for each index. One that is outside the table (the CPU's rows refuse it) gives NaN.
template <class T>
__global__ void gather_rows(const int32_t* indices, int64_t count, const T* table,
                            int64_t vocabulary, const T* positions, int64_t first, int64_t period,
                            int64_t width, T* y) {
  for (int64_t n = blockIdx.x; n < count; n += gridDim.x) {
    const int64_t index = indices[n];
    const bool known = index >= 0 && index < vocabulary;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      T value = known ? table[index * width + i] : T(NAN);
      if (positions != nullptr) value += positions[(first + n % period) * width + i];
      y[n * width + i] = value;
    }
  }
}
void run_embedding_forward(const EmbeddingForward& a) {
  const View indices = view(a.indices), table = view(a.table), positions = view(a.positions),
             y = writable(a.y);
  for_float(table.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(table);
    Launch(blocks_for(indices.count, 1), threads_for(width))(
        gather_rows<T>, pointer<const int32_t>(indices), indices.count, pointer<const T>(table),
        table.size[0], pointer<const T>(positions), a.first_position, a.period, width,
        pointer<T>(y));
  });
}

// The block of an index's first place adds the rows of all its places, in order: no two blocks meet
// in a row of the table.
template <class T>
__global__ void add_rows(const int32_t* indices, int64_t count, const T* grad_y, int64_t vocabulary,
                         int64_t width, T* grad_table) {
  for (int64_t n = blockIdx.x; n < count; n += gridDim.x) {
    const int32_t index = indices[n];
    int before = index < 0 || index >= vocabulary;
    for (int64_t m = threadIdx.x; m < n; m += blockDim.x) before |= indices[m] == index;
    if (over_block(before, Sum{}, 0) > 0) continue;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      T total = grad_table[index * width + i];
      for (int64_t m = n; m < count; ++m)
        if (indices[m] == index) total += grad_y[m * width + i];
      grad_table[index * width + i] = total;
    }
  }
}
template <class T>
__global__ void add_positions(const T* grad_y, int64_t count, int64_t places, int64_t first,
                              int64_t period, int64_t width, T* grad_positions) {
  for (int64_t place = blockIdx.x; place < places; place += gridDim.x) {
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      T total = grad_positions[(first + place) * width + i];
      for (int64_t n = place; n < count; n += period) total += grad_y[n * width + i];
      grad_positions[(first + place) * width + i] = total;
    }
  }
}
void run_embedding_backward(const EmbeddingBackward& a) {
  const View indices = view(a.indices), grad_y = view(a.grad_y),
             grad_table = writable(a.grad_table), grad_positions = writable(a.grad_positions);
  const int64_t count = indices.count;
  for_float(grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(grad_y), places = std::min(a.period, count);
    if (grad_table.data != nullptr)
      Launch(blocks_for(count, 1), threads_for(width))(
          add_rows<T>, pointer<const int32_t>(indices), count, pointer<const T>(grad_y),
          grad_table.size[0], width, pointer<T>(grad_table));
    if (grad_positions.data != nullptr)
      Launch(blocks_for(places, 1), threads_for(width))(add_positions<T>, pointer<const T>(grad_y),
                                                        count, places, a.first_position, a.period,
                                                        width, pointer<T>(grad_positions));
  });
}

REVERIE_CUDA_KERNEL(embedding_forward, run_embedding_forward);
REVERIE_CUDA_KERNEL(embedding_backward, run_embedding_backward);

}  // namespace
}  // namespace reverie::cuda
