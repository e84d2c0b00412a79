#include "kernels/attention.h"
#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

template <class T>
void turn(const Rope& args) {
  const View x = view(args.x), y = writable(args.y);
  const int64_t batch = x.size[0], time = x.size[1], heads = x.size[2], half = x.size[3] / 2;
  // cos and sin of every (position, pair), shared by the batch and the heads; angles in double, for
  // large positions.
  auto* table = static_cast<T*>(scratch(Slot::shared, size_t(time * half * 2 + 1) * sizeof(T)));
  for_each(time, half * 64, [=, &args](int64_t t) {
    const double position = double(args.first_position + t);
    for (int64_t d = 0; d < half; ++d) {
      const double angle = position * __builtin_pow(args.base, -double(d) / double(half));
      table[t * 2 * half + d] = T(__builtin_cos(angle));
      table[(t * 2 + 1) * half + d] =
          T(args.inverse ? -__builtin_sin(angle) : __builtin_sin(angle));
    }
  });
  for_each(batch * time, heads * half * 2, [=](int64_t task) {
    const int64_t b = task / time, t = task % time;
    const T *cosine = table + t * 2 * half, *sine = cosine + half;
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
