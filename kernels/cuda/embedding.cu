#include "kernels/embedding.h"

#include "kernels/cuda/compact_blocks.cuh"

namespace reverie::cuda {
namespace {

constexpr int kLinkThreads = 128, kRowThreads = 128;

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
// The same of a table that stays as a file has it.
template <class Type>
__global__ void gather_blocks(const int32_t* indices, int64_t count, const uint8_t* table,
                              int64_t row_bytes, int64_t vocabulary, const float* positions,
                              int64_t first, int64_t period, int64_t width, float* y) {
  const Four unknown{{NAN, NAN, NAN, NAN}};
  for (int64_t n = blockIdx.x; n < count; n += gridDim.x) {
    const int64_t index = indices[n];
    const bool known = index >= 0 && index < vocabulary;
    for (int64_t i = int64_t(threadIdx.x) * kFour; i < width; i += int64_t(blockDim.x) * kFour) {
      const int64_t left = width - i;
      Four four = known ? four_of<Type>(table + index * row_bytes, i, left) : unknown;
      if (positions != nullptr) {
        const Four place = load<false, kFour>(positions + (first + n % period) * width + i, left);
        for (int k = 0; k < kFour; ++k) four.at[k] += place.at[k];
      }
      store<false, kFour>(y + n * width + i, four, left);
    }
  }
}
void gather_compact(const EmbeddingForward& a, const CompactRows& table) {
  const View indices = view(a.indices), positions = view(a.positions), y = writable(a.y);
  const Launch launch(blocks_for(indices.count, 1),
                      threads_for((table.columns + kFour - 1) / kFour));
  for_type(table.type, [&](auto type) {
    launch(gather_blocks<decltype(type)>, pointer<const int32_t>(indices), indices.count,
           bytes_of(table), table.row_bytes, table.rows, pointer<const float>(positions),
           a.first_position, a.period, table.columns, pointer<float>(y));
  });
}
void run_embedding_forward(const EmbeddingForward& a) {
  if (const auto compact = compact_rows(a.table)) return gather_compact(a, *compact);
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

// Of each place: the next one with the same index (count: there is none), and whether it is the
// first. All threads read the same indices at the same time, so that what is quadratic is one load
// from the cache for a warp.
__global__ void link_places(const int32_t* indices, int64_t count, int32_t* next, int32_t* first) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < count; n += stride) {
    const int32_t index = indices[n];
    bool before = false;
    int64_t m = 0;
    for (; m < count; ++m) {
      if (indices[m] != index || m == n) continue;
      if (m > n) break;
      before = true;
    }
    next[n] = int32_t(m);
    first[n] = before ? 0 : 1;
  }
}
// The blocks of an index's first place add the rows of all its places, in order: no two blocks meet
// in a number of the table.
template <class T>
__global__ void add_rows(const int32_t* indices, const int32_t* next, const int32_t* first,
                         int64_t count, const T* grad_y, int64_t vocabulary, int64_t width,
                         T* grad_table) {
  const int64_t i = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (i >= width) return;
  for (int64_t n = blockIdx.x; n < count; n += gridDim.x) {
    const int64_t index = indices[n];
    if (first[n] == 0 || index < 0 || index >= vocabulary) continue;
    T total = grad_table[index * width + i];
    for (int64_t m = n; m < count; m = next[m]) total += grad_y[m * width + i];
    grad_table[index * width + i] = total;
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
    if (grad_table.data != nullptr) {
      Tensor links = scratch(2 * count, DType::i32);
      auto* next = static_cast<int32_t*>(links.mutable_raw());
      int32_t* first = next + count;
      const auto* index = pointer<const int32_t>(indices);
      Launch(blocks_for(count, kLinkThreads), kLinkThreads)(link_places, index, count, next, first);
      const int threads = threads_for(width, kRowThreads);
      Launch(blocks_for(count, 1), (width + threads - 1) / threads, threads)(
          add_rows<T>, index, next, first, count, pointer<const T>(grad_y), grad_table.size[0],
          width, pointer<T>(grad_table));
    }
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
