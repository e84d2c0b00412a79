#include "kernels/conv1d.h"

#include "kernels/cuda/sums.cuh"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256;

struct Sizes {
  int64_t batch, time, channels, taps;
};
Sizes sizes_of(const View& x, const View& weight) {
  return {x.size[0], x.size[1], x.size[2], weight.size[1]};
}

// Element c of row s of batch entry b: of x from 0, of the context before, or 0.
template <class T>
__device__ T element(Sizes n, const T* x, const T* context, int64_t b, int64_t s, int64_t c) {
  if (s >= 0) return x[(b * n.time + s) * n.channels + c];
  return context == nullptr ? T(0) : context[((b + 1) * (n.taps - 1) + s) * n.channels + c];
}

// A thread for each element of y.
template <class T>
__global__ void convolve(Sizes n, const T* x, const T* weight, const T* bias, const T* context,
                         T* y) {
  const int64_t count = n.batch * n.time * n.channels, step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t c = i % n.channels, row = i / n.channels;
    const int64_t b = row / n.time, first = row % n.time - n.taps + 1;
    T sum = bias == nullptr ? T(0) : bias[c];
    for (int64_t k = 0; k < n.taps; ++k)
      sum += weight[c * n.taps + k] * element(n, x, context, b, first + k, c);
    y[i] = sum;
  }
}

void run_forward(const Conv1dForward& a) {
  const View x = view(a.x), weight = view(a.weight), bias = view(a.bias), context = view(a.context),
             y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Launch(blocks_for(x.count, kThreads), kThreads)(
        convolve<T>, sizes_of(x, weight), pointer<const T>(x), pointer<const T>(weight),
        pointer<const T>(bias), pointer<const T>(context), pointer<T>(y));
  });
}

// A thread for each element of `rows` rows from row `first` of each batch entry: of x (first 0), or
// of the context (first 1 - taps).
template <class T>
__global__ void gradient_of_rows(Sizes n, const T* weight, const T* grad_y, int64_t first,
                                 int64_t rows, T* grad) {
  const int64_t count = n.batch * rows * n.channels, step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t c = i % n.channels, row = i / n.channels;
    const int64_t b = row / rows, last = first + row % rows + n.taps - 1;
    T sum = 0;
    for (int64_t k = 0; k < n.taps; ++k) {
      const int64_t t = last - k;
      if (t >= 0 && t < n.time)
        sum += weight[c * n.taps + k] * grad_y[(b * n.time + t) * n.channels + c];
    }
    grad[i] = sum;
  }
}

// partial[chunk, c, k], a thread for each channel and tap: neighbours read neighbouring channels.
template <class T>
__global__ void weight_gradient_of_chunks(Sizes n, const T* x, const T* context, const T* grad_y,
                                          int64_t height, int64_t chunks, T* partial) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, size = n.channels * n.taps;
  if (i >= size) return;
  const int64_t c = i % n.channels, k = i / n.channels, rows = n.batch * n.time;
  for (int64_t chunk = blockIdx.y; chunk < chunks; chunk += gridDim.y) {
    const int64_t begin = chunk * height, end = begin + height < rows ? begin + height : rows;
    T sum = 0;
    for (int64_t row = begin; row < end; ++row)
      sum += grad_y[row * n.channels + c] *
             element(n, x, context, row / n.time, row % n.time - n.taps + 1 + k, c);
    partial[chunk * size + c * n.taps + k] = sum;
  }
}
template <class T>
void weight_gradient(Sizes n, const T* x, const T* context, const T* grad_y, T* grad_weight) {
  const int64_t rows = n.batch * n.time, height = rows_per_chunk(rows),
                chunks = std::max<int64_t>(1, (rows + height - 1) / height),
                size = n.channels * n.taps;
  Tensor partial = scratch(chunks * size, dtype_of<T>);
  auto* sums = static_cast<T*>(partial.mutable_raw());
  const int threads = threads_for(size, 128);
  Launch((size + threads - 1) / threads, chunks, threads)(weight_gradient_of_chunks<T>, n, x,
                                                          context, grad_y, height, chunks, sums);
  run_add_chunks(static_cast<const T*>(sums), 1, chunks, size, 1.0, false, grad_weight);
}

void run_backward(const Conv1dBackward& a) {
  const View x = view(a.x), weight = view(a.weight), context = view(a.context),
             grad_y = view(a.grad_y), grad_x = writable(a.grad_x),
             grad_weight = writable(a.grad_weight), grad_context = writable(a.grad_context);
  const Sizes n = sizes_of(x, weight);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto rows_gradient = [&](const View& grad, int64_t first, int64_t rows) {
      if (grad.data != nullptr)
        Launch(blocks_for(grad.count, kThreads), kThreads)(
            gradient_of_rows<T>, n, pointer<const T>(weight), pointer<const T>(grad_y), first, rows,
            pointer<T>(grad));
    };
    rows_gradient(grad_x, 0, n.time);
    rows_gradient(grad_context, 1 - n.taps, n.taps - 1);
    if (grad_weight.data != nullptr)
      weight_gradient(n, pointer<const T>(x), pointer<const T>(context), pointer<const T>(grad_y),
                      pointer<T>(grad_weight));
  });
}

REVERIE_CUDA_KERNEL(conv1d_forward, run_forward);
REVERIE_CUDA_KERNEL(conv1d_backward, run_backward);

}  // namespace
}  // namespace reverie::cuda
