#include "kernels/softmax.h"

#include "kernels/cuda/launch.cuh"

// A block for each row.

namespace reverie::cuda {
namespace {

// f(index, pack) over the packs of `count` numbers that this thread takes.
template <bool kWhole, int kPack, class T, class F>
__device__ void each_pack(const T* x, int64_t count, const F& f) {
  for (int64_t i = int64_t(threadIdx.x) * kPack; i < count; i += int64_t(blockDim.x) * kPack)
    f(i, load<kWhole, kPack>(x + i, count - i));
}
// The largest of sign * x, sign 1 or -1.
template <bool kWhole, class T>
__device__ T largest(const T* x, T sign, int64_t count) {
  constexpr int kPack = kPackOf<T>;
  T top = -T(INFINITY);
  each_pack<kWhole, kPack>(x, count, [&](int64_t i, const Pack<T, kPack>& p) {
    for (int k = 0; k < kPack; ++k)
      if (i + k < count) top = Maximum{}(top, sign * p.at[k]);
  });
  return over_block(top, Maximum{}, -T(INFINITY));
}

template <bool kWhole, class T>
__global__ void softmax_rows(const T* x, T scale, const int32_t* valid, int64_t rows, int64_t width,
                             T* y) {
  constexpr int kPack = kPackOf<T>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* in = x + row * width;
    T* out = y + row * width;
    int64_t count = width;
    if (valid != nullptr)
      count = valid[row] < 0 ? 0 : (valid[row] < width ? int64_t(valid[row]) : width);
    // The largest is taken off before it is multiplied, so that its own score is exactly 0: the
    // rounding of a huge product must not reach exp.
    const T sign = scale < T(0) ? T(-1) : T(1), size = sign * scale,
            top = largest<kWhole>(in, sign, count);
    T total = 0;
    each_pack<kWhole, kPack>(in, count, [&](int64_t i, Pack<T, kPack> p) {
      for (int k = 0; k < kPack; ++k) {
        p.at[k] = fmath::exp(size * (sign * p.at[k] - top));
        if (i + k < count) total += p.at[k];
      }
      store<kWhole, kPack>(out + i, p, count - i);
    });
    const T inverse = T(1) / over_block(total, Sum{}, T(0));
    each_pack<kWhole, kPack>(out, count, [&](int64_t i, Pack<T, kPack> p) {
      for (int k = 0; k < kPack; ++k) p.at[k] *= inverse;
      store<kWhole, kPack>(out + i, p, count - i);
    });
    for (int64_t i = count + threadIdx.x; i < width; i += blockDim.x) out[i] = 0;
  }
}

template <bool kWhole, class T>
__global__ void softmax_gradient(const T* y, const T* grad_y, T scale, int64_t rows, int64_t width,
                                 T* grad_x) {
  constexpr int kPack = kPackOf<T>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *p = y + row * width, *g = grad_y + row * width;
    T dot = 0;
    each_pack<kWhole, kPack>(p, width, [&](int64_t i, const Pack<T, kPack>& probability) {
      const Pack<T, kPack> gradient = load<kWhole, kPack>(g + i, width - i);
      for (int k = 0; k < kPack; ++k) dot += probability.at[k] * gradient.at[k];
    });
    dot = over_block(dot, Sum{}, T(0));
    each_pack<kWhole, kPack>(p, width, [&](int64_t i, Pack<T, kPack> probability) {
      const Pack<T, kPack> gradient = load<kWhole, kPack>(g + i, width - i);
      for (int k = 0; k < kPack; ++k)
        probability.at[k] = scale * probability.at[k] * (gradient.at[k] - dot);
      store<kWhole, kPack>(grad_x + row * width + i, probability, width - i);
    });
  }
}

// A target that is no column (the CPU's rows refuse it) gives NaN.
template <bool kWhole, class T>
__global__ void loss_of_rows(const T* logits, const int32_t* targets, int64_t rows, int64_t width,
                             T* loss, T* log_sum_exp) {
  constexpr int kPack = kPackOf<T>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x = logits + row * width;
    const T top = largest<kWhole>(x, T(1), width);
    T total = 0;
    each_pack<kWhole, kPack>(x, width, [&](int64_t i, const Pack<T, kPack>& p) {
      for (int k = 0; k < kPack; ++k)
        if (i + k < width) total += fmath::exp(p.at[k] - top);
    });
    const T log_total = fmath::log(over_block(total, Sum{}, T(0)));
    if (threadIdx.x == 0) {
      const int32_t target = targets[row];
      log_sum_exp[row] = top + log_total;
      // In this order a confident, right prediction keeps its small loss.
      loss[row] = target < 0 ? T(0) : target < width ? (top - x[target]) + log_total : T(NAN);
    }
  }
}

template <bool kWhole, class T>
__global__ void loss_gradient(const T* logits, const int32_t* targets, const T* log_sum_exp,
                              const T* grad_loss, int64_t rows, int64_t width, T* grad_logits) {
  constexpr int kPack = kPackOf<T>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t target = targets[row];
    const T sum = log_sum_exp[row], gradient = target < 0 ? T(0) : grad_loss[row];
    each_pack<kWhole, kPack>(logits + row * width, width, [&](int64_t i, Pack<T, kPack> p) {
      for (int k = 0; k < kPack; ++k) {
        const T e = fmath::exp(p.at[k] - sum) - (i + k == target ? T(1) : T(0));
        p.at[k] = target < 0 ? T(0) : gradient * e;
      }
      store<kWhole, kPack>(grad_logits + row * width + i, p, width - i);
    });
  }
}

// body(Choice<whole packs>, threads), for rows of `width` numbers at these places.
template <class T, class Body>
void for_rows(int64_t width, std::initializer_list<const void*> places, const Body& body) {
  constexpr int kPack = kPackOf<T>;
  with_choice(width % kPack == 0 && on_pack_boundaries(places),
              [&](auto whole) { body(whole, threads_for((width + kPack - 1) / kPack)); });
}

void run_softmax_forward(const SoftmaxForward& a) {
  const View x = view(a.x), valid = view(a.valid), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows<T>(columns(x), {x.data, y.data}, [&](auto whole, int threads) {
      Launch(blocks_for(rows(x), 1), threads)(
          softmax_rows<decltype(whole)::value, T>, pointer<const T>(x), T(a.scale),
          pointer<const int32_t>(valid), rows(x), columns(x), pointer<T>(y));
    });
  });
}
void run_softmax_backward(const SoftmaxBackward& a) {
  const View y = view(a.y), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  for_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows<T>(columns(y), {y.data, grad_y.data, grad_x.data}, [&](auto whole, int threads) {
      Launch(blocks_for(rows(y), 1), threads)(softmax_gradient<decltype(whole)::value, T>,
                                              pointer<const T>(y), pointer<const T>(grad_y),
                                              T(a.scale), rows(y), columns(y), pointer<T>(grad_x));
    });
  });
}
void run_cross_entropy_forward(const CrossEntropyForward& a) {
  const View logits = view(a.logits), targets = view(a.targets), loss = writable(a.loss),
             log_sum_exp = writable(a.log_sum_exp);
  for_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows<T>(columns(logits), {logits.data}, [&](auto whole, int threads) {
      Launch(blocks_for(rows(logits), 1), threads)(
          loss_of_rows<decltype(whole)::value, T>, pointer<const T>(logits),
          pointer<const int32_t>(targets), rows(logits), columns(logits), pointer<T>(loss),
          pointer<T>(log_sum_exp));
    });
  });
}
void run_cross_entropy_backward(const CrossEntropyBackward& a) {
  const View logits = view(a.logits), targets = view(a.targets), log_sum_exp = view(a.log_sum_exp),
             grad_loss = view(a.grad_loss), grad_logits = writable(a.grad_logits);
  for_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows<T>(columns(logits), {logits.data, grad_logits.data}, [&](auto whole, int threads) {
      Launch(blocks_for(rows(logits), 1), threads)(
          loss_gradient<decltype(whole)::value, T>, pointer<const T>(logits),
          pointer<const int32_t>(targets), pointer<const T>(log_sum_exp),
          pointer<const T>(grad_loss), rows(logits), columns(logits), pointer<T>(grad_logits));
    });
  });
}

REVERIE_CUDA_KERNEL(softmax_forward, run_softmax_forward);
REVERIE_CUDA_KERNEL(softmax_backward, run_softmax_backward);
REVERIE_CUDA_KERNEL(cross_entropy_forward, run_cross_entropy_forward);
REVERIE_CUDA_KERNEL(cross_entropy_backward, run_cross_entropy_backward);

}  // namespace
}  // namespace reverie::cuda
