#include "kernels/attention.h"
#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

template <class T>
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
#pragma omp simd
      for (int64_t d = 0; d < half; ++d) {
        const T low = from[d], high = from[d + half];
        to[d] = low * cosine[d] - high * sine[d];
        to[d + half] = high * cosine[d] + low * sine[d];
      }
    }
  });
}

void run_rope(const Rope& a) {
  for_float(view(a.x).dtype, [&](auto zero) { turn<decltype(zero)>(a); });
}

REVERIE_CPU_KERNEL(rope, run_rope);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
