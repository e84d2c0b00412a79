#include "kernels/attention.h"

#include "core/random.h"
#include "kernels/cpu/isa/parallel.h"
#include "kernels/fmath.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

struct Mask {
  uint32_t threshold;
  uint64_t seed, offset;
  double scale;
};
Mask mask_of(const AttentionOptions& o) {
  return {uint32_t(__builtin_ceil(o.dropout_p * 16777216.0)), o.seed, o.offset, 1.0 / (1.0 - o.dropout_p)};
}
bool kept(const Mask& mask, uint64_t n) {
  return (philox(mask.seed, mask.offset + n / 4).v[n % 4] >> 8) >= mask.threshold;
}

template <class T>
void forward(const AttentionForward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value), output = writable(args.output),
             lse = writable(args.log_sum_exp);
  const int64_t batch = query.size[0], queries = query.size[1], heads = query.size[2], dim = query.size[3], keys = key.size[1];
  const int64_t group = heads / key.size[2], first = args.options.first_position;
  const T scale = T(args.options.scale);
  const Mask mask = mask_of(args.options);
  for_each(batch * heads, queries * keys * dim, [&](int64_t task) {
    const int64_t b = task / heads, h = task % heads;
    const T* q = pointer<T>(query) + b * query.stride[0] + h * query.stride[2];
    const T* k = pointer<T>(key) + b * key.stride[0] + h / group * key.stride[2];
    const T* v = pointer<T>(value) + b * value.stride[0] + h / group * value.stride[2];
    auto* p = static_cast<T*>(scratch(Slot::local, size_t(keys) * sizeof(T)));
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t seen = first + i + 1;
      const T* q_i = q + i * query.stride[1];
      T top = 0;
      for (int64_t j = 0; j < seen; ++j) {
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < dim; ++d) dot += q_i[d] * k[j * key.stride[1] + d];
        p[j] = dot * scale;
        top = j == 0 || p[j] > top ? p[j] : top;
      }
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < seen; ++j) total += p[j] = fmath::exp(p[j] - top);
      T* out = pointer<T>(output) + ((b * queries + i) * heads + h) * dim;
      for (int64_t d = 0; d < dim; ++d) out[d] = 0;
      for (int64_t j = 0; j < seen; ++j) {
        T weight = p[j] / total;
        if (mask.threshold > 0)
          weight = kept(mask, (uint64_t(task) * queries + i) * keys + j) ? weight * T(mask.scale) : T(0);
#pragma omp simd
        for (int64_t d = 0; d < dim; ++d) out[d] += weight * v[j * value.stride[1] + d];
      }
      pointer<T>(lse)[task * queries + i] = top + fmath::log(total);
    }
  });
}

template <class T>
void backward(const AttentionBackward& args) {
  const View query = view(args.query), key = view(args.key), value = view(args.value), output = view(args.output),
             lse = view(args.log_sum_exp), grad_output = view(args.grad_output), grad_query = writable(args.grad_query),
             grad_key = writable(args.grad_key), grad_value = writable(args.grad_value);
  const int64_t batch = query.size[0], queries = query.size[1], heads = query.size[2], dim = query.size[3], keys = key.size[1];
  const int64_t kv_heads = key.size[2], group = heads / kv_heads, first = args.options.first_position;
  const T scale = T(args.options.scale);
  const Mask mask = mask_of(args.options);
  for_each(batch * kv_heads, group * queries * keys * dim, [&](int64_t task) {
    const int64_t b = task / kv_heads, kv = task % kv_heads;
    const T* k = pointer<T>(key) + b * key.stride[0] + kv * key.stride[2];
    const T* v = pointer<T>(value) + b * value.stride[0] + kv * value.stride[2];
    T* dk = pointer<T>(grad_key) + b * grad_key.stride[0] + kv * grad_key.stride[2];
    T* dv = pointer<T>(grad_value) + b * grad_value.stride[0] + kv * grad_value.stride[2];
    for (int64_t j = 0; j < keys; ++j)
      for (int64_t d = 0; d < dim; ++d) dk[j * grad_key.stride[1] + d] = dv[j * grad_value.stride[1] + d] = 0;
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const T* q = pointer<T>(query) + b * query.stride[0] + h * query.stride[2];
      T* dq = pointer<T>(grad_query) + b * grad_query.stride[0] + h * grad_query.stride[2];
      for (int64_t i = 0; i < queries; ++i) {
        const int64_t row = (b * queries + i) * heads + h, seen = first + i + 1;
        const T *out = pointer<T>(output) + row * dim, *dout = pointer<T>(grad_output) + row * dim, *q_i = q + i * query.stride[1];
        T* dq_i = dq + i * grad_query.stride[1];
        const T sum = pointer<T>(lse)[(b * heads + h) * queries + i];
        T delta = 0;
        for (int64_t d = 0; d < dim; ++d) {
          delta += out[d] * dout[d];
          dq_i[d] = 0;
        }
        for (int64_t j = 0; j < seen; ++j) {
          const T *k_j = k + j * key.stride[1], *v_j = v + j * value.stride[1];
          T *dk_j = dk + j * grad_key.stride[1], *dv_j = dv + j * grad_value.stride[1];
          T dot = 0, dp = 0;
#pragma omp simd reduction(+ : dot, dp)
          for (int64_t d = 0; d < dim; ++d) {
            dot += q_i[d] * k_j[d];
            dp += dout[d] * v_j[d];
          }
          const T p = fmath::exp(dot * scale - sum);
          T keep = 1;
          if (mask.threshold > 0)
            keep = kept(mask, (uint64_t(b * heads + h) * queries + i) * keys + j) ? T(mask.scale) : T(0);
          const T ds = p * (keep * dp - delta) * scale, weight = p * keep;
#pragma omp simd
          for (int64_t d = 0; d < dim; ++d) {
            dq_i[d] += ds * k_j[d];
            dk_j[d] += ds * q_i[d];
            dv_j[d] += weight * dout[d];
          }
        }
      }
    }
  });
}

void run_attention_forward(const AttentionForward& a) { for_float(view(a.query).dtype, [&](auto zero) { forward<decltype(zero)>(a); }); }
void run_attention_backward(const AttentionBackward& a) { for_float(view(a.query).dtype, [&](auto zero) { backward<decltype(zero)>(a); }); }

REVERIE_CPU_KERNEL(attention_forward, run_attention_forward);
REVERIE_CPU_KERNEL(attention_backward, run_attention_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
