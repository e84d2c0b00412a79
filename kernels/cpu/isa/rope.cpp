#include "kernels/attention.h"
#include "kernels/cpu/isa/parallel.h"
#include "kernels/cpu/rotations.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Turns one head's row, back where `sign` is -1; kHalf: the number of pairs where the compiler is
// to know it, 0: `half`.
template <int64_t kHalf, class T>
REVERIE_INLINE void turn_row(const T* from, const T* rotation, T sign, int64_t half, T* to) {
  const int64_t pairs = kHalf > 0 ? kHalf : half;
#pragma omp simd
  for (int64_t d = 0; d < pairs; ++d) {
    const T low = from[d], high = from[d + pairs], cosine = rotation[d],
            sine = sign * rotation[d + pairs];
    to[d] = low * cosine - high * sine;
    to[d + pairs] = high * cosine + low * sine;
  }
}

// Up to as many positions are computed for themselves: they are those of decoding, which come once.
constexpr int64_t kFewPositions = 8;

template <int64_t kHalf, class T>
void turn(const Rope& args) {
  const View x = view(args.x), y = writable(args.y), positions = view(args.positions),
             frequencies = view(args.frequencies);
  const int64_t batch = x.size[0], time = x.size[1], heads = x.size[2], half = x.size[3] / 2,
                count = positions.count;
  if (x.count == 0) return;
  const auto* position = pointer<int32_t>(positions);
  const auto* frequency = pointer<double>(frequencies);
  int64_t least = position[0], greatest = position[0];
  for (int64_t i = 1; i < count; ++i) {
    least = smaller<int64_t>(least, position[i]);
    greatest = larger<int64_t>(greatest, position[i]);
  }
  // A table of all positions between the least and the greatest, or of every row, whichever is
  // smaller.
  const bool by_position = greatest - least < count && count > kFewPositions;
  const T* table;
  if (by_position) {
    table = rotations<T>(frequency, half, least, greatest + 1);
  } else {
    T* rows = static_cast<T*>(scratch(Slot::shared, size_t(count * half * 2 + 1) * sizeof(T)));
    for_each(count, half * 64, [=](int64_t row) {
      for (int64_t d = 0; d < half; ++d) {
        const double angle = double(position[row]) * frequency[d];
        rows[row * 2 * half + d] = T(__builtin_cos(angle));
        rows[(row * 2 + 1) * half + d] = T(__builtin_sin(angle));
      }
    });
    table = rows;
  }
  const T sign = args.inverse ? T(-1) : T(1);
  for_each(batch * time, heads * half * 2, [=](int64_t task) {
    const int64_t b = task / time, t = task % time, row = positions.rank == 2 ? task : t,
                  entry = by_position ? position[row] - least : row;
    for (int64_t h = 0; h < heads; ++h) {
      const T* from = pointer<T>(x) + b * x.stride[0] + t * x.stride[1] + h * x.stride[2];
      T* to = pointer<T>(y) + b * y.stride[0] + t * y.stride[1] + h * y.stride[2];
      turn_row<kHalf>(from, table + entry * 2 * half, sign, half, to);
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
