#include "kernels/reduce.h"

#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/isa/simd.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Sum of n contiguous numbers: lanes within pieces of 1024, pieces in double.
template <class T>
double sum_contiguous(const T* x, int64_t n) {
  constexpr int64_t kPiece = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = smaller(n, begin + kPiece);
    total +=
        double(sum_terms<T>(end - begin, [=](auto at, int64_t i) { return at(x + begin + i); }));
  }
  return total;
}

template <class T>
void sum_rows(const T* x, int64_t outer, int64_t dim, double scale, bool accumulate, T* y) {
  if (outer == 1 &&
      dim >= kParallelWork) {  // one long sum: blocks in parallel, then their sums in order
    constexpr int64_t kBlock = 16384;
    const int64_t blocks = (dim + kBlock - 1) / kBlock;
    auto* partial = static_cast<double*>(scratch(Slot::shared, size_t(blocks) * sizeof(double)));
    for_each(blocks, kBlock, [=](int64_t block) {
      partial[block] = sum_contiguous(x + block * kBlock, smaller(kBlock, dim - block * kBlock));
    });
    double total = 0;
    for (int64_t block = 0; block < blocks; ++block) total += partial[block];
    y[0] = T((accumulate ? double(y[0]) : 0.0) + scale * total);
    return;
  }
  for_each(outer, dim, [=](int64_t o) {
    y[o] = T((accumulate ? double(y[o]) : 0.0) + scale * sum_contiguous(x + o * dim, dim));
  });
}

// total[i] = sum of `count` rows of width `inner` starting at x, for columns [begin, end).
template <class T>
void add_rows(const T* x, int64_t count, int64_t inner, int64_t begin, int64_t end, T* total) {
  for (int64_t i = begin; i < end; ++i) total[i] = 0;
  for (int64_t d = 0; d < count; ++d) {
    const T* row = x + d * inner;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) total[i] += row[i];
  }
}

template <class T>
void sum_columns(const T* x, int64_t outer, int64_t dim, int64_t inner, T scale, bool accumulate,
                 T* y) {
  const int64_t height = rows_per_block(dim), blocks = (dim + height - 1) / height;
  auto* partial =
      static_cast<T*>(scratch(Slot::shared, size_t(outer * blocks * inner) * sizeof(T)));
  for_each(outer * blocks, height * inner, [=](int64_t task) {
    const int64_t o = task / blocks, first = task % blocks * height;
    add_rows(x + (o * dim + first) * inner, smaller(height, dim - first), inner, 0, inner,
             partial + task * inner);
  });
  for_each(outer, blocks * inner, [=](int64_t o) {
    T* total = partial + o * blocks * inner;
    T* out = y + o * inner;
    for (int64_t block = 1; block < blocks; ++block) {
      const T* part = total + block * inner;
#pragma omp simd
      for (int64_t i = 0; i < inner; ++i) total[i] += part[i];
    }
    if (accumulate) {
#pragma omp simd
      for (int64_t i = 0; i < inner; ++i) out[i] += scale * total[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < inner; ++i) out[i] = scale * total[i];
    }
  });
}

void run_sum_forward(const SumForward& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (a.inner == 1) {
      sum_rows(pointer<T>(x), a.outer, a.dim, a.scale, a.accumulate, pointer<T>(y));
    } else {
      sum_columns(pointer<T>(x), a.outer, a.dim, a.inner, T(a.scale), a.accumulate, pointer<T>(y));
    }
  });
}

void run_repeat(const Repeat& a) {
  const View grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  const int64_t dim = a.dim, inner = a.inner;
  for_float(grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(grad_y);
    T* out = pointer<T>(grad_x);
    const T scale = T(a.scale);
    if (inner == 1) {
      for_each(a.outer, dim, [=](int64_t o) {
        const T value = scale * in[o];
        for (int64_t d = 0; d < dim; ++d) out[o * dim + d] = value;
      });
    } else {
      for_each(a.outer * dim, inner, [=](int64_t row) {
        const T* from = in + row / dim * inner;
        T* to = out + row * inner;
#pragma omp simd
        for (int64_t i = 0; i < inner; ++i) to[i] = scale * from[i];
      });
    }
  });
}

void run_cumulative_sum(const CumulativeSum& a) {
  const View x = view(a.x), initial = view(a.initial), y = writable(a.y);
  const int64_t dim = a.dim, inner = a.inner;
  const bool reverse = a.reverse;
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *in = pointer<T>(x), *start = pointer<T>(initial);
    T* out = pointer<T>(y);
    for_each(dim == 0 ? 0 : a.outer, dim * inner, [=](int64_t o) {
      const T* from = in + o * dim * inner;
      T* to = out + o * dim * inner;
      const int64_t first = reverse ? dim - 1 : 0, step = reverse ? -inner : inner;
      from += first * inner;
      to += first * inner;
      if (start != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < inner; ++i) to[i] = start[o * inner + i] + from[i];
      } else {
#pragma omp simd
        for (int64_t i = 0; i < inner; ++i) to[i] = from[i];
      }
      for (int64_t d = 1; d < dim; ++d) {
        const T* before = to;
        from += step;
        to += step;
#pragma omp simd
        for (int64_t i = 0; i < inner; ++i) to[i] = before[i] + from[i];
      }
    });
  });
}

// In double: the square of an f32 may be beyond the range of f32.
template <class T>
double squares(const T* x, int64_t n) {
  typedef T Half __attribute__((vector_size(kLanes<double> * sizeof(T)), aligned(sizeof(T))));
  constexpr int64_t kWidth = kLanes<double>;
  Vector<double> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const Vector<double> v = __builtin_convertvector(
          *reinterpret_cast<const Half*>(x + i + part * kWidth), Vector<double>);
      sums[part] += v * v;
    }
  }
  double total = sum_lanes<double>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < n; ++i) total += double(x[i]) * double(x[i]);
  return total;
}

void run_sum_squares(const SumSquares& a) {
  constexpr int64_t kBlock = 16384;
  const View x = view(a.x), result = writable(a.result);
  const int64_t blocks = (x.count + kBlock - 1) / kBlock;
  auto* partial = static_cast<double*>(scratch(Slot::shared, size_t(blocks) * sizeof(double)));
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(x);
    for_each(blocks, kBlock, [=](int64_t block) {
      const int64_t end = smaller(x.count, (block + 1) * kBlock);
      partial[block] = squares(in + block * kBlock, end - block * kBlock);
    });
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += partial[block];
  *pointer<double>(result) += total;
}

REVERIE_CPU_KERNEL(sum_forward, run_sum_forward);
REVERIE_CPU_KERNEL(repeat, run_repeat);
REVERIE_CPU_KERNEL(cumulative_sum, run_cumulative_sum);
REVERIE_CPU_KERNEL(sum_squares, run_sum_squares);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
