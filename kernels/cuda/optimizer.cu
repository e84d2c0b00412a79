#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/cuda/launch.cuh"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct Update {
  T beta1, rest1, beta2, rest2, eps, rate, root_correct_v, grad_scale, decay;
};

template <bool kWhole, class T>
__global__ void update(Update<T> u, int64_t count, const T* grad, T* parameter, T* m, T* v,
                       uint16_t* rounded) {
  constexpr int kPack = kPackOf<T>;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kPack;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; i < count; i += step) {
    const int64_t left = count - i;
    const Pack<T, kPack> gradient = load<kWhole, kPack>(grad + i, left);
    Pack<T, kPack> p = load<kWhole, kPack>(parameter + i, left),
                   first = load<kWhole, kPack>(m + i, left),
                   second = load<kWhole, kPack>(v + i, left);
    for (int k = 0; k < kPack; ++k) {
      const T g = gradient.at[k] * u.grad_scale;
      first.at[k] = u.beta1 * first.at[k] + u.rest1 * g;
      second.at[k] = u.beta2 * second.at[k] + u.rest2 * (g * g);
      p.at[k] -= u.rate * first.at[k] / (fmath::sqrt(second.at[k]) * u.root_correct_v + u.eps) +
                 u.decay * p.at[k];
    }
    store<kWhole, kPack>(parameter + i, p, left);
    store<kWhole, kPack>(m + i, first, left);
    store<kWhole, kPack>(v + i, second, left);
    if (rounded == nullptr) continue;
    Pack<uint16_t, kPack> low;
    for (int k = 0; k < kPack; ++k) low.at[k] = bf16_bits(float(p.at[k]));
    store<kWhole, kPack>(rounded + i, low, left);
  }
}

void run_adamw(const AdamW& a) {
  const View parameter = writable(a.parameter), grad = view(a.grad), m = writable(a.m),
             v = writable(a.v);
  uint16_t* rounded = a.rounded != nullptr ? pointer<uint16_t>(writable(*a.rounded)) : nullptr;
  // Bias corrections in double: 1 - b2^t loses most of its digits in f32 at the first steps.
  const double correct_m = 1.0 / (1.0 - std::pow(a.beta1, double(a.step)));
  const double correct_v = 1.0 / (1.0 - std::pow(a.beta2, double(a.step)));
  for_float(parameter.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Update<T> u{T(a.beta1),
                      T(1.0 - a.beta1),
                      T(a.beta2),
                      T(1.0 - a.beta2),
                      T(a.eps),
                      T(a.lr * correct_m),
                      T(std::sqrt(correct_v)),
                      T(a.grad_scale),
                      T(a.lr * a.weight_decay)};
    with_choice(on_pack_boundaries({parameter.data, grad.data, m.data, v.data, rounded}),
                [&](auto whole) {
                  Launch(blocks_for(parameter.count, int64_t(kThreads) * kPackOf<T>), kThreads)(
                      update<decltype(whole)::value, T>, u, parameter.count, pointer<const T>(grad),
                      pointer<T>(parameter), pointer<T>(m), pointer<T>(v), rounded);
                });
  });
}

REVERIE_CUDA_KERNEL(adamw, run_adamw);

}  // namespace
}  // namespace reverie::cuda
