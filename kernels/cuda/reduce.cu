#include "kernels/reduce.h"

#include "kernels/cuda/sums.cuh"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 16384;

template <class T>
struct Identity {
  __device__ T operator()(T x) const { return x; }
};
// In double: the square of an f32 may be beyond the range of f32.
template <class T>
struct Square {
  __device__ double operator()(T x) const { return double(x) * double(x); }
};

// partial[o, chunk] = sum of f(x) over a chunk of row o, a block for each.
template <bool kWhole, class F, class T>
__global__ void sum_row_chunks(F f, const T* x, int64_t outer, int64_t dim, int64_t chunks,
                               double* partial) {
  constexpr int kPack = kPackOf<T>;
  for (int64_t task = blockIdx.x; task < outer * chunks; task += gridDim.x) {
    const int64_t begin = task % chunks * kChunk, left = dim - begin;
    const int64_t count = left < kChunk ? left : kChunk;
    const T* from = x + task / chunks * dim + begin;
    decltype(f(T(0))) total = 0;
    for (int64_t i = int64_t(threadIdx.x) * kPack; i < count; i += int64_t(blockDim.x) * kPack) {
      const Pack<T, kPack> p = load<kWhole, kPack>(from + i, count - i);
      for (int k = 0; k < kPack; ++k) total += f(p.at[k]);
    }
    const double sum = over_block(double(total), Sum{}, 0.0);
    if (threadIdx.x == 0) partial[task] = sum;
  }
}
template <class F, class T, class Out>
void sum_rows(F f, const T* x, int64_t outer, int64_t dim, double scale, bool accumulate, Out* y) {
  constexpr int kPack = kPackOf<T>;
  const int64_t chunks = std::max<int64_t>(1, (dim + kChunk - 1) / kChunk);
  Tensor partial = scratch(outer * chunks, DType::f64);
  auto* sums = static_cast<double*>(partial.mutable_raw());
  with_choice(on_pack_boundaries({x}) && dim % kPack == 0, [&](auto whole) {
    Launch(blocks_for(outer * chunks, 1),
           threads_for((std::min(dim, kChunk) + kPack - 1) / kPack, kThreads))(
        sum_row_chunks<decltype(whole)::value, F, T>, f, x, outer, dim, chunks, sums);
  });
  run_add_chunks(static_cast<const double*>(sums), outer, chunks, int64_t(1), scale, accumulate, y);
}

// partial[o, chunk, i] = sum over a chunk's rows of x[o, d, i], a thread for each column.
template <class T>
__global__ void sum_column_chunks(const T* x, int64_t outer, int64_t dim, int64_t inner,
                                  int64_t height, int64_t chunks, T* partial) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= inner) return;
  for (int64_t task = blockIdx.y; task < outer * chunks; task += gridDim.y) {
    const int64_t begin = task % chunks * height, end = begin + height < dim ? begin + height : dim;
    const T* from = x + task / chunks * dim * inner + i;
    T total = 0;
    for (int64_t d = begin; d < end; ++d) total += from[d * inner];
    partial[task * inner + i] = total;
  }
}
template <class T>
void sum_columns(const T* x, int64_t outer, int64_t dim, int64_t inner, double scale,
                 bool accumulate, T* y) {
  const int64_t height = rows_per_chunk(dim),
                chunks = std::max<int64_t>(1, (dim + height - 1) / height);
  Tensor partial = scratch(outer * chunks * inner, dtype_of<T>);
  auto* sums = static_cast<T*>(partial.mutable_raw());
  const int threads = threads_for(inner, 128);
  Launch((inner + threads - 1) / threads, std::min<int64_t>(outer * chunks, 65535), threads)(
      sum_column_chunks<T>, x, outer, dim, inner, height, chunks, sums);
  run_add_chunks(static_cast<const T*>(sums), outer, chunks, inner, scale, accumulate, y);
}

void run_sum_forward(const SumForward& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (a.inner == 1)
      sum_rows(Identity<T>{}, pointer<const T>(x), a.outer, a.dim, a.scale, a.accumulate,
               pointer<T>(y));
    else
      sum_columns(pointer<const T>(x), a.outer, a.dim, a.inner, a.scale, a.accumulate,
                  pointer<T>(y));
  });
}

template <class T>
__global__ void repeat_rows(const T* x, int64_t count, int64_t dim, int64_t inner, T scale, T* y) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < count; n += step)
    y[n] = scale * x[n / (dim * inner) * inner + n % inner];
}
void run_repeat(const Repeat& a) {
  const View grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  for_float(grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    Launch(blocks_for(grad_x.count, kThreads), kThreads)(repeat_rows<T>, pointer<const T>(grad_y),
                                                         grad_x.count, a.dim, a.inner, T(a.scale),
                                                         pointer<T>(grad_x));
  });
}

// A thread for each [outer, inner], along dim.
template <class T>
__global__ void accumulate_along(const T* x, int64_t outer, int64_t dim, int64_t inner,
                                 bool reverse, const T* initial, T* y) {
  const int64_t threads = int64_t(gridDim.x) * blockDim.x;
  for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < outer * inner;
       n += threads) {
    const int64_t first = n / inner * dim * inner + n % inner;
    T total = initial == nullptr ? T(0) : initial[n];
    for (int64_t d = 0; d < dim; ++d) {
      const int64_t at = first + (reverse ? dim - 1 - d : d) * inner;
      total += x[at];
      y[at] = total;
    }
  }
}
void run_cumulative_sum(const CumulativeSum& a) {
  const View x = view(a.x), initial = view(a.initial), y = writable(a.y);
  if (x.count == 0) return;
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = a.outer * a.inner;
    Launch(blocks_for(count, kThreads), threads_for(count, kThreads))(
        accumulate_along<T>, pointer<const T>(x), a.outer, a.dim, a.inner, a.reverse,
        pointer<const T>(initial), pointer<T>(y));
  });
}

void run_sum_squares(const SumSquares& a) {
  const View x = view(a.x), result = writable(a.result);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    sum_rows(Square<T>{}, pointer<const T>(x), 1, x.count, 1.0, true, pointer<double>(result));
  });
}

REVERIE_CUDA_KERNEL(sum_forward, run_sum_forward);
REVERIE_CUDA_KERNEL(repeat, run_repeat);
REVERIE_CUDA_KERNEL(cumulative_sum, run_cumulative_sum);
REVERIE_CUDA_KERNEL(sum_squares, run_sum_squares);

}  // namespace
}  // namespace reverie::cuda
