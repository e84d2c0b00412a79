#include "kernels/copy.h"

#include "kernels/cpu/isa/bf16_output.h"
#include "kernels/cpu/isa/compact_rows.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// The tensor as [outer dimensions.., height, width], dimensions that lie together on both sides
// joined.
struct Plan {
  int rank = 0;
  int64_t size[kMaxRank + 2], from[kMaxRank + 2], to[kMaxRank + 2];
};

Plan plan(const View& x, const View& y) {
  Plan p;
  for (int d = 0; d < x.rank; ++d) {
    if (x.size[d] == 1) continue;
    const int last = p.rank - 1;
    if (last >= 0 && p.from[last] == x.stride[d] * x.size[d] &&
        p.to[last] == y.stride[d] * x.size[d]) {
      p.size[last] *= x.size[d];
      p.from[last] = x.stride[d];
      p.to[last] = y.stride[d];
    } else {
      p.size[p.rank] = x.size[d];
      p.from[p.rank] = x.stride[d];
      p.to[p.rank] = y.stride[d];
      ++p.rank;
    }
  }
  // At least two dimensions, so that the loops below have their height and width.
  while (p.rank < 2) {
    for (int d = p.rank; d > 0; --d) {
      p.size[d] = p.size[d - 1];
      p.from[d] = p.from[d - 1];
      p.to[d] = p.to[d - 1];
    }
    p.size[0] = 1;
    p.from[0] = p.to[0] = 0;
    ++p.rank;
  }
  return p;
}

template <bool kAccumulate, class T>
void copy_row(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t width) {
  if (from_stride == 1 && to_stride == 1) {
    if constexpr (kAccumulate) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) to[i] += from[i];
    } else {
      __builtin_memcpy(to, from, size_t(width) * sizeof(T));
    }
    return;
  }
  for (int64_t i = 0; i < width; ++i) {
    if constexpr (kAccumulate) {
      to[i * to_stride] += from[i * from_stride];
    } else {
      to[i * to_stride] = from[i * from_stride];
    }
  }
}

template <bool kAccumulate, class T>
void copy(const View& x, const View& y) {
  if (x.count == 0) return;
  const Plan p = plan(x, y);
  const int height_dim = p.rank - 2, width_dim = p.rank - 1;
  const int64_t height = p.size[height_dim], width = p.size[width_dim];
  // Where neither side is contiguous along the last dimension on both ends (a transposition),
  // squares of 16 keep the cache lines of both in use.
  const bool transposed = p.from[width_dim] != 1 || p.to[width_dim] != 1;
  const int64_t step = transposed ? 16 : 1;
  const int64_t bands = (height + step - 1) / step;
  int64_t outer = 1;
  for (int d = 0; d < height_dim; ++d) outer *= p.size[d];
  const T* in = pointer<T>(x);
  T* out = pointer<T>(y);
  for_each(outer * bands, step * width, [=](int64_t task) {
    const int64_t first = task % bands * step, last = smaller(height, first + step);
    int64_t rest = task / bands, from = 0, to = 0;
    for (int d = height_dim - 1; d >= 0; --d) {
      from += rest % p.size[d] * p.from[d];
      to += rest % p.size[d] * p.to[d];
      rest /= p.size[d];
    }
    const int64_t piece = transposed ? 16 : width;
    for (int64_t begin = 0; begin < width; begin += piece) {
      const int64_t count = smaller(piece, width - begin);
      for (int64_t row = first; row < last; ++row) {
        copy_row<kAccumulate>(
            in + from + row * p.from[height_dim] + begin * p.from[width_dim], p.from[width_dim],
            out + to + row * p.to[height_dim] + begin * p.to[width_dim], p.to[width_dim], count);
      }
    }
  });
}

void run_strided_copy(const StridedCopy& a) {
  const View x = view(a.x), y = writable(a.y);
  if (a.accumulate) {
    for_float(x.dtype, [&](auto zero) { copy<true, decltype(zero)>(x, y); });
    return;
  }
  switch (x.dtype) {
    case DType::f64:
    case DType::i64:
      return copy<false, uint64_t>(x, y);
    case DType::f32:
    case DType::i32:
      return copy<false, uint32_t>(x, y);
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return copy<false, uint16_t>(x, y);
    case DType::u8:
      return copy<false, uint8_t>(x, y);
  }
  no_case_for("dtype", int(x.dtype));
}

void narrow(const float* from, uint16_t* to, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) to[i] = bf16_bits(from[i]);
}
void widen(const uint16_t* from, uint32_t* to, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) to[i] = uint32_t(from[i]) << 16;
}

void run_cast(const Cast& a) {
  const View x = view(a.x), y = writable(a.y);
  if (x.dtype == DType::f32) {
    for_blocks(x.count, 1, [&](int64_t begin, int64_t end) {
      narrow(pointer<float>(x), pointer<uint16_t>(y), begin, end);
    });
  } else {
    for_blocks(x.count, 1, [&](int64_t begin, int64_t end) {
      widen(pointer<uint16_t>(x), pointer<uint32_t>(y), begin, end);
    });
  }
}

void run_widen_rows(const WidenRows& a) {
  const CompactView weights = compact_view(a.weights);
  const View y = writable(a.y);
  const int64_t n = weights.columns;
  for_each(weights.rows, n, [&](int64_t row) {
    if (y.dtype == DType::f32) return widen_rows(weights, row, 1, pointer<float>(y) + row * n);
    auto* wide = static_cast<float*>(scratch(Slot::local, size_t(n) * sizeof(float)));
    widen_rows(weights, row, 1, wide);
    narrow(wide, pointer<uint16_t>(y) + row * n, 0, n);
  });
}

REVERIE_CPU_KERNEL(strided_copy, run_strided_copy);
REVERIE_CPU_KERNEL(cast, run_cast);
REVERIE_CPU_KERNEL(widen_rows, run_widen_rows);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
