#include "kernels/softmax.h"

#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/isa/simd.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// The largest of sign * x, sign 1 or -1.
template <class T>
T largest(const T* x, T sign, int64_t n) {
  T top = sign * x[0];
  if (n >= kLanes<T>) {
    Vector<T> tops = splat(top);
    over_vectors(x, n, [&](Vector<T> v, int64_t, int64_t) {
      tops = choose_lanes<T>(sign * v > tops, sign * v, tops);
    });
    return largest_lane<T>(tops);
  }
  for (int64_t i = 1; i < n; ++i) top = sign * x[i] > top ? sign * x[i] : top;
  return top;
}

// Scores are size * (sign * x), sign 1 or -1. The largest, `top` without its size, is taken off
// before it is multiplied, so that its own score is exactly 0: the rounding of a huge product must
// not reach exp.
template <class T>
struct Scores {
  T sign, size, top;
};

// Sum of exp of the scores; each is also written to y, unless that is null. y may be x.
template <class T>
T sum_of_exponentials(const T* x, Scores<T> s, int64_t n, T* y) {
  if (n >= kLanes<T>) {
    using Number = typename IndexOf<T>::scalar;
    Vector<T> sums = {};
    over_vectors(x, n, [&](Vector<T> v, int64_t i, int64_t fresh) {
      const Vector<T> e = exp_falling_lanes<T>(s.size * (s.sign * v - splat(s.top)));
      if (y != nullptr) store(y + i, e);
      sums += choose_lanes<T>(lane_numbers<T>() >= Number(kLanes<T> - fresh), e, Vector<T>{});
    });
    return sum_lanes<T>(sums);
  }
  T total = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T e = fmath::exp(s.size * (s.sign * x[i] - s.top));
    if (y != nullptr) y[i] = e;
    total += e;
  }
  return total;
}

template <class T>
void softmax_row(const T* x, T scale, int64_t valid, int64_t width, T* y) {
  if (valid > 0) {
    const T sign = scale < T(0) ? T(-1) : T(1);
    const Scores<T> scores{sign, sign * scale, largest(x, sign, valid)};
    const T inverse = T(1) / sum_of_exponentials(x, scores, valid, y);
#pragma omp simd
    for (int64_t i = 0; i < valid; ++i) y[i] *= inverse;
  }
  for (int64_t i = valid; i < width; ++i) y[i] = 0;
}

void run_softmax_forward(const SoftmaxForward& a) {
  const View x = view(a.x), valid = view(a.valid), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(x);
    const T* in = pointer<T>(x);
    const int32_t* counts = pointer<int32_t>(valid);
    T* out = pointer<T>(y);
    const T scale = T(a.scale);
    for_each(rows(x), width * kExpensive, [=](int64_t row) {
      const int64_t count =
          counts == nullptr ? width : smaller<int64_t>(width, larger<int64_t>(0, counts[row]));
      softmax_row(in + row * width, scale, count, width, out + row * width);
    });
  });
}

void run_softmax_backward(const SoftmaxBackward& a) {
  const View y = view(a.y), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  for_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(y);
    const T *probability = pointer<T>(y), *gradient = pointer<T>(grad_y);
    T* out = pointer<T>(grad_x);
    const T scale = T(a.scale);
    for_each(rows(y), width * 2, [=](int64_t row) {
      const T *p = probability + row * width, *g = gradient + row * width;
      T* to = out + row * width;
      const T dot = sum_terms<T>(width, [=](auto at, int64_t i) { return at(p + i) * at(g + i); });
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) to[i] = scale * p[i] * (g[i] - dot);
    });
  });
}

void run_cross_entropy_forward(const CrossEntropyForward& a) {
  const View logits = view(a.logits), targets = view(a.targets), loss = writable(a.loss),
             log_sum_exp = writable(a.log_sum_exp);
  for_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(logits);
    const T* in = pointer<T>(logits);
    const int32_t* target = pointer<int32_t>(targets);
    T *losses = pointer<T>(loss), *sums = pointer<T>(log_sum_exp);
    for_each(rows(logits), width * kExpensive, [=](int64_t row) {
      const T* x = in + row * width;
      const T top = largest(x, T(1), width);
      const T log_total = fmath::log(sum_of_exponentials<T>(x, {T(1), T(1), top}, width, nullptr));
      sums[row] = top + log_total;
      // In this order a confident, right prediction keeps its small loss.
      losses[row] = target[row] < 0 ? T(0) : (top - x[target[row]]) + log_total;
    });
  });
}

void run_cross_entropy_backward(const CrossEntropyBackward& a) {
  const View logits = view(a.logits), targets = view(a.targets), log_sum_exp = view(a.log_sum_exp),
             grad_loss = view(a.grad_loss), grad_logits = writable(a.grad_logits);
  for_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(logits);
    const T *in = pointer<T>(logits), *sums = pointer<T>(log_sum_exp),
            *gradients = pointer<T>(grad_loss);
    const int32_t* target = pointer<int32_t>(targets);
    T* out = pointer<T>(grad_logits);
    for_each(rows(logits), width * kExpensive, [=](int64_t row) {
      const T* x = in + row * width;
      T* to = out + row * width;
      if (target[row] < 0) {
        for (int64_t i = 0; i < width; ++i) to[i] = 0;
        return;
      }
      const T sum = sums[row], gradient = gradients[row];
      if (width >= kLanes<T>) {
        over_vectors(x, width, [=](Vector<T> v, int64_t i, int64_t) {
          store(to + i, gradient * exp_falling_lanes<T>(v - splat(sum)));
        });
      } else {
        for (int64_t i = 0; i < width; ++i) to[i] = gradient * fmath::exp(x[i] - sum);
      }
      to[target[row]] -= gradient;
    });
  });
}

REVERIE_CPU_KERNEL(softmax_forward, run_softmax_forward);
REVERIE_CPU_KERNEL(softmax_backward, run_softmax_backward);
REVERIE_CPU_KERNEL(cross_entropy_forward, run_cross_entropy_forward);
REVERIE_CPU_KERNEL(cross_entropy_backward, run_cross_entropy_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
