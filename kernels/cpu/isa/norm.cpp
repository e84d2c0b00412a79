#include "kernels/norm.h"

#include "kernels/cpu/isa/bf16_output.h"
#include "kernels/cpu/isa/simd.h"
#include "kernels/fmath.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// One row. Null weight: 1; null bias: 0; null residual: x is normalised as it is.
template <class T, class Out>
void normalise(Norm kind, const T* x, const T* residual, const T* weight, const T* bias, T eps,
               int64_t width, T* sum, Out* y, T* mean, T* rstd) {
  if (residual != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) sum[i] = x[i] + residual[i];
    x = sum;
  }
  T centre = 0;
  if (kind == Norm::layer) {
    centre = sum_terms<T>(width, [=](auto at, int64_t i) { return at(x + i); }) / T(width);
    *mean = centre;
  }
  const T squares = sum_terms<T>(width, [=](auto at, int64_t i) {
    const auto offset = at(x + i) - centre;
    return offset * offset;
  });
  const T scale = T(1) / fmath::sqrt(squares / T(width) + eps);
  *rstd = scale;
  if (weight != nullptr && bias != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) put(y, i, (x[i] - centre) * scale * weight[i] + bias[i]);
  } else if (weight != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) put(y, i, (x[i] - centre) * scale * weight[i]);
  } else {
    for (int64_t i = 0; i < width; ++i)
      put(y, i, (x[i] - centre) * scale + (bias != nullptr ? bias[i] : T(0)));
  }
}

void run_norm_forward(const NormForward& a) {
  const View x = view(a.x), residual = view(a.residual), weight = view(a.weight),
             bias = view(a.bias), y = writable(a.y), rstd = writable(a.rstd),
             mean = a.kind == Norm::layer ? writable(a.mean) : View{},
             sum = residual.data != nullptr ? writable(a.sum) : View{};
  const Norm kind = a.kind;
  for_float_into(x.dtype, y.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    const int64_t width = columns(x);
    const T *in = pointer<T>(x), *other = pointer<T>(residual), *w = pointer<T>(weight),
            *b = pointer<T>(bias);
    T *sums = pointer<T>(sum), *means = pointer<T>(mean), *scales = pointer<T>(rstd);
    Out* out = pointer<Out>(y);
    const T eps = T(a.eps);
    for_each(rows(x), width * 3, [=](int64_t row) {
      const int64_t at = row * width;
      normalise(kind, in + at, other == nullptr ? nullptr : other + at, w, b, eps, width,
                sums == nullptr ? nullptr : sums + at, out + at,
                means == nullptr ? nullptr : means + row, scales + row);
    });
  });
}

// With xhat = (x - mean) * rstd and g = grad_y * weight:
// grad_x = rstd * (g - average(g) - xhat * average(g * xhat)), without average(g) for rms.
template <class T>
void grad_row(Norm kind, const T* x, const T* weight, T mean, T rstd, const T* grad_y,
              const T* grad_sum, int64_t width, T* grad_x) {
  const auto xhat = [=](auto at, int64_t i) { return (at(x + i) - mean) * rstd; };
  T total = 0, dot = 0;
  if (weight != nullptr) {
    if (kind == Norm::layer)
      total =
          sum_terms<T>(width, [=](auto at, int64_t i) { return at(grad_y + i) * at(weight + i); });
    dot = sum_terms<T>(
        width, [=](auto at, int64_t i) { return at(grad_y + i) * at(weight + i) * xhat(at, i); });
  } else {
    if (kind == Norm::layer)
      total = sum_terms<T>(width, [=](auto at, int64_t i) { return at(grad_y + i); });
    dot = sum_terms<T>(width, [=](auto at, int64_t i) { return at(grad_y + i) * xhat(at, i); });
  }
  const T average = total / T(width);
  dot /= T(width);
  if (weight != nullptr && grad_sum != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
      grad_x[i] =
          rstd * (grad_y[i] * weight[i] - average - (x[i] - mean) * rstd * dot) + grad_sum[i];
  } else if (weight != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
      grad_x[i] = rstd * (grad_y[i] * weight[i] - average - (x[i] - mean) * rstd * dot);
  } else {
    for (int64_t i = 0; i < width; ++i)
      grad_x[i] = rstd * (grad_y[i] - average - (x[i] - mean) * rstd * dot) +
                  (grad_sum != nullptr ? grad_sum[i] : T(0));
  }
}

template <class T>
void add_blocks(const T* partial, int64_t blocks, int64_t width, T* total) {
  for (int64_t i = 0; i < width; ++i) total[i] = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const T* part = partial + block * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) total[i] += part[i];
  }
}

// Rows are cut into blocks that depend on their number alone; each block sums its own weight and
// bias gradients.
template <class T>
void norm_gradients(Norm kind, int64_t count, int64_t width, const T* x, const T* weight,
                    const T* mean, const T* rstd, const T* grad_y, const T* grad_sum, T* grad_x,
                    T* grad_weight, T* grad_bias) {
  const int64_t height = rows_per_block(count), blocks = (count + height - 1) / height;
  auto* partial_weight =
      static_cast<T*>(scratch(Slot::shared, size_t(blocks * width * 2 + 1) * sizeof(T)));
  T* partial_bias = partial_weight + blocks * width;
  for_each(blocks, height * width * 4, [=](int64_t block) {
    T *sum_weight = partial_weight + block * width, *sum_bias = partial_bias + block * width;
    for (int64_t i = 0; i < width; ++i) sum_weight[i] = sum_bias[i] = 0;
    const int64_t end = smaller(count, (block + 1) * height);
    for (int64_t row = block * height; row < end; ++row) {
      const T *in = x + row * width, *g = grad_y + row * width;
      const T centre = kind == Norm::layer ? mean[row] : T(0), scale = rstd[row];
      if (grad_weight != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) sum_weight[i] += g[i] * ((in[i] - centre) * scale);
      }
      if (grad_bias != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) sum_bias[i] += g[i];
      }
      if (grad_x != nullptr) {
        grad_row(kind, in, weight, centre, scale, g,
                 grad_sum == nullptr ? nullptr : grad_sum + row * width, width,
                 grad_x + row * width);
      }
    }
  });
  if (grad_weight != nullptr) add_blocks(partial_weight, blocks, width, grad_weight);
  if (grad_bias != nullptr) add_blocks(partial_bias, blocks, width, grad_bias);
}

void run_norm_backward(const NormBackward& a) {
  const View x = view(a.x), weight = view(a.weight), mean = view(a.mean), rstd = view(a.rstd),
             grad_y = view(a.grad_y), grad_sum = view(a.grad_sum), grad_x = writable(a.grad_x),
             grad_weight = writable(a.grad_weight), grad_bias = writable(a.grad_bias);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    norm_gradients(a.kind, rows(x), columns(x), pointer<T>(x), pointer<T>(weight), pointer<T>(mean),
                   pointer<T>(rstd), pointer<T>(grad_y), pointer<T>(grad_sum), pointer<T>(grad_x),
                   pointer<T>(grad_weight), pointer<T>(grad_bias));
  });
}

REVERIE_CPU_KERNEL(norm_forward, run_norm_forward);
REVERIE_CPU_KERNEL(norm_backward, run_norm_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
