#include "kernels/optimizer.h"

#include "kernels/cpu/isa/bf16_output.h"
#include "kernels/cpu/isa/parallel.h"
#include "kernels/fmath.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

void run_adamw(const AdamW& a) {
  const View parameter = writable(a.parameter), grad = view(a.grad), m = writable(a.m),
             v = writable(a.v);
  uint16_t* rounded = a.rounded != nullptr ? pointer<uint16_t>(writable(*a.rounded)) : nullptr;
  // Bias corrections in double: 1 - b2^t loses most of its digits in f32 at the first steps.
  const double correct_m = 1.0 / (1.0 - __builtin_pow(a.beta1, double(a.step)));
  const double correct_v = 1.0 / (1.0 - __builtin_pow(a.beta2, double(a.step)));
  for_float(parameter.dtype, [&](auto zero) {
    using T = decltype(zero);
    T *p = pointer<T>(parameter), *first = pointer<T>(m), *second = pointer<T>(v);
    const T* gradient = pointer<T>(grad);
    const T beta1 = T(a.beta1), rest1 = T(1.0 - a.beta1), beta2 = T(a.beta2),
            rest2 = T(1.0 - a.beta2), eps = T(a.eps);
    const T rate = T(a.lr * correct_m), root_correct_v = T(__builtin_sqrt(correct_v)),
            grad_scale = T(a.grad_scale);
    const T decay = T(a.lr * a.weight_decay);
    for_blocks(parameter.count, 4, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const T g = gradient[i] * grad_scale;
        const T m_i = beta1 * first[i] + rest1 * g;
        const T v_i = beta2 * second[i] + rest2 * (g * g);
        first[i] = m_i;
        second[i] = v_i;
        p[i] -= rate * m_i / (fmath::sqrt(v_i) * root_correct_v + eps) + decay * p[i];
      }
      if (rounded == nullptr) return;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) rounded[i] = bf16_bits(float(p[i]));
    });
  });
}

REVERIE_CPU_KERNEL(adamw, run_adamw);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
