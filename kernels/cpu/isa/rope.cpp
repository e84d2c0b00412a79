#include "kernels/attention.h"
#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Turns one head's row; kHalf: the number of pairs where the compiler is to know it, 0: `half`.
template <int64_t kHalf, class T>
REVERIE_INLINE void turn_row(const T* from, const T* cosine, const T* sine, int64_t half, T* to) {
  const int64_t pairs = kHalf > 0 ? kHalf : half;
#pragma omp simd
  for (int64_t d = 0; d < pairs; ++d) {
    const T low = from[d], high = from[d + pairs];
    to[d] = low * cosine[d] - high * sine[d];
    to[d + pairs] = high * cosine[d] + low * sine[d];
  }
}

template <int64_t kHalf, class T>
void turn(const Rope& args) {
  const View x = view(args.x), y = writable(args.y), positions = view(args.positions),
             frequencies = view(args.frequencies);
  const int64_t batch = x.size[0], time = x.size[1], heads = x.size[2], half = x.size[3] / 2,
                count = positions.count;
  if (x.count == 0) return;
  const auto* position = pointer<int32_t>(positions);
  const auto* frequency = pointer<double>(frequencies);
  // cos and sin, shared by the heads, and by the batch or by rows at the same position: a table of
  // all positions between the least and the greatest, or of every row, whichever is smaller.
  int64_t least = position[0], greatest = position[0];
  for (int64_t i = 1; i < count; ++i) {
    least = smaller<int64_t>(least, position[i]);
    greatest = larger<int64_t>(greatest, position[i]);
  }
  const bool by_position = greatest - least < count;
  const int64_t entries = by_position ? greatest - least + 1 : count;
  auto* table = static_cast<T*>(scratch(Slot::shared, size_t(entries * half * 2 + 1) * sizeof(T)));
  const double sign = args.inverse ? -1 : 1;
  for_each(entries, half * 64, [=](int64_t entry) {
    const double at = double(by_position ? least + entry : position[entry]);
    for (int64_t d = 0; d < half; ++d) {
      const double angle = at * frequency[d];
      table[entry * 2 * half + d] = T(__builtin_cos(angle));
      table[(entry * 2 + 1) * half + d] = T(sign * __builtin_sin(angle));
    }
  });
  for_each(batch * time, heads * half * 2, [=](int64_t task) {
    const int64_t b = task / time, t = task % time, row = positions.rank == 2 ? task : t,
                  entry = by_position ? position[row] - least : row;
    const T *cosine = table + entry * 2 * half, *sine = cosine + half;
    for (int64_t h = 0; h < heads; ++h) {
      const T* from = pointer<T>(x) + b * x.stride[0] + t * x.stride[1] + h * x.stride[2];
      T* to = pointer<T>(y) + b * y.stride[0] + t * y.stride[1] + h * y.stride[2];
      turn_row<kHalf>(from, cosine, sine, half, to);
    }
  });
}

// Heads of a small model are shorter than what a loop of unknown length costs.
void run_rope(const Rope& a) {
  for_float(view(a.x).dtype, [&](auto zero) {
    using T = decltype(zero);
    switch (view(a.x).size[3] / 2) {
      case 4:
        return turn<4, T>(a);
      case 8:
        return turn<8, T>(a);
      case 16:
        return turn<16, T>(a);
      default:
        return turn<0, T>(a);
    }
  });
}

REVERIE_CPU_KERNEL(rope, run_rope);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
