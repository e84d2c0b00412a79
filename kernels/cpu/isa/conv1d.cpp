#include "kernels/conv1d.h"

#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

struct Sizes {
  int64_t batch, time, channels, taps;
};
Sizes sizes_of(const View& x, const View& weight) {
  return {x.size[0], x.size[1], x.size[2], weight.size[1]};
}

// Row s of batch entry b, of x [B, T, C] from 0 and of context [B, K - 1, C] before; null where
// there is none.
template <class T>
T* row_of(const Sizes& n, T* x, T* context, int64_t b, int64_t s) {
  if (s >= 0) return s < n.time ? x + (b * n.time + s) * n.channels : nullptr;
  return context == nullptr ? nullptr : context + ((b + 1) * (n.taps - 1) + s) * n.channels;
}

// weight [C, K] as [K, C], a row for each tap.
template <class T>
const T* rows_of_taps(const Sizes& n, const T* weight) {
  auto* rows = static_cast<T*>(scratch(Slot::shared, size_t(n.taps * n.channels) * sizeof(T)));
  for (int64_t c = 0; c < n.channels; ++c)
    for (int64_t k = 0; k < n.taps; ++k) rows[k * n.channels + c] = weight[c * n.taps + k];
  return rows;
}

// sum[c] += a[c] * b[c].
template <class T>
void add_products(int64_t count, const T* a, const T* b, T* sum) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) sum[c] += a[c] * b[c];
}

void run_forward(const Conv1dForward& a) {
  const View x = view(a.x), weight = view(a.weight), bias = view(a.bias), context = view(a.context),
             y = writable(a.y);
  const Sizes n = sizes_of(x, weight);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    T *in = pointer<T>(x), *before = pointer<T>(context), *out = pointer<T>(y);
    const T *shift = pointer<T>(bias), *taps = rows_of_taps(n, pointer<T>(weight));
    for_each(n.batch * n.time, n.channels * n.taps, [=](int64_t row) {
      T* sum = out + row * n.channels;
      for (int64_t c = 0; c < n.channels; ++c) sum[c] = shift == nullptr ? T(0) : shift[c];
      for (int64_t k = 0; k < n.taps; ++k) {
        const T* from = row_of(n, in, before, row / n.time, row % n.time - n.taps + 1 + k);
        if (from != nullptr) add_products(n.channels, taps + k * n.channels, from, sum);
      }
    });
  });
}

// The gradient of a row s of x, or of the context where s < 0: from the rows of y that see it.
template <class T>
void row_gradient(const Sizes& n, const T* taps, const T* grad_y, int64_t b, int64_t s, T* grad) {
  for (int64_t c = 0; c < n.channels; ++c) grad[c] = 0;
  for (int64_t k = 0; k < n.taps; ++k) {
    const int64_t t = s + n.taps - 1 - k;
    if (t < 0 || t >= n.time) continue;
    add_products(n.channels, taps + k * n.channels, grad_y + (b * n.time + t) * n.channels, grad);
  }
}
template <class T>
void input_gradients(const Sizes& n, const T* weight, const T* grad_y, T* grad_x, T* grad_context) {
  if (grad_x == nullptr && grad_context == nullptr) return;
  const T* taps = rows_of_taps(n, weight);
  const int64_t earlier = n.taps - 1, rows = earlier + n.time;
  for_each(n.batch * rows, n.channels * n.taps, [=](int64_t row) {
    const int64_t b = row / rows, s = row % rows - earlier;
    if (s < 0 ? grad_context == nullptr : grad_x == nullptr) return;
    row_gradient(n, taps, grad_y, b, s, row_of(n, grad_x, grad_context, b, s));
  });
}

// Rows are cut into blocks that depend on their number alone; each sums its own [K, C].
template <class T>
void weight_gradient(const Sizes& n, T* x, T* context, const T* grad_y, T* grad_weight) {
  const int64_t rows = n.batch * n.time, height = rows_per_block(rows),
                blocks = (rows + height - 1) / height, size = n.taps * n.channels;
  auto* partial =
      static_cast<T*>(scratch(Slot::shared, size_t((blocks + 1) * size + 1) * sizeof(T)));
  T* total = partial + blocks * size;
  for_each(blocks, height * size, [=](int64_t block) {
    T* sums = partial + block * size;
    for (int64_t i = 0; i < size; ++i) sums[i] = 0;
    for (int64_t row = block * height; row < smaller(rows, (block + 1) * height); ++row)
      for (int64_t k = 0; k < n.taps; ++k) {
        const T* from = row_of(n, x, context, row / n.time, row % n.time - n.taps + 1 + k);
        if (from != nullptr)
          add_products(n.channels, grad_y + row * n.channels, from, sums + k * n.channels);
      }
  });
  for (int64_t i = 0; i < size; ++i) total[i] = 0;
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t i = 0; i < size; ++i) total[i] += partial[block * size + i];
  for (int64_t c = 0; c < n.channels; ++c)
    for (int64_t k = 0; k < n.taps; ++k) grad_weight[c * n.taps + k] = total[k * n.channels + c];
}

void run_backward(const Conv1dBackward& a) {
  const View x = view(a.x), weight = view(a.weight), context = view(a.context),
             grad_y = view(a.grad_y), grad_x = writable(a.grad_x),
             grad_weight = writable(a.grad_weight), grad_context = writable(a.grad_context);
  const Sizes n = sizes_of(x, weight);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    input_gradients(n, pointer<const T>(weight), pointer<const T>(grad_y), pointer<T>(grad_x),
                    pointer<T>(grad_context));
    if (grad_weight.data != nullptr)
      weight_gradient(n, pointer<T>(x), pointer<T>(context), pointer<const T>(grad_y),
                      pointer<T>(grad_weight));
  });
}

REVERIE_CPU_KERNEL(conv1d_forward, run_forward);
REVERIE_CPU_KERNEL(conv1d_backward, run_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
