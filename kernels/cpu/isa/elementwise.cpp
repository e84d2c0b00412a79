#include "kernels/elementwise.h"

#include "kernels/cpu/isa/bf16_output.h"
#include "kernels/cpu/isa/dropout.h"
#include "kernels/functional.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// body(functor, T(0)).
template <class Body>
void with_unary(DType dtype, Unary f, const Body& body) {
  for_float(dtype, [&](auto zero) {
    functional::with_unary(f, [&](auto functor) { body(functor, zero); });
  });
}
template <class Body>
void with_binary(DType dtype, Binary f, const Body& body) {
  for_float(dtype, [&](auto zero) {
    functional::with_binary(f, [&](auto functor) { body(functor, zero); });
  });
}

void run_unary_forward(const UnaryForward& a) {
  const View x = view(a.x), y = writable(a.y);
  with_unary(x.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(x);
    T* out = pointer<T>(y);
    for_blocks(x.count, kExpensive, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = f.value(in[i]);
    });
  });
}

void run_unary_backward(const UnaryBackward& a) {
  const View x = view(a.x), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  with_unary(x.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    const T *in = pointer<T>(x), *gradient = pointer<T>(grad_y);
    T* out = pointer<T>(grad_x);
    for_blocks(x.count, kExpensive, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = gradient[i] * f.derivative(in[i]);
    });
  });
}

template <class T, class F>
void binary(F f, const T* a, const T* b, T* y, int64_t outer, int64_t middle, int64_t inner) {
  if (outer == 1 && inner == 1) {
    for_blocks(middle, 1, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = f.value(a[i], b[i]);
    });
  } else if (inner == 1) {
    for_each(outer, middle, [=](int64_t o) {
      const T* row = a + o * middle;
      T* out = y + o * middle;
#pragma omp simd
      for (int64_t i = 0; i < middle; ++i) out[i] = f.value(row[i], b[i]);
    });
  } else {
    for_each(outer * middle, inner, [=](int64_t row) {
      const T other = b[row % middle];
      const T* in = a + row * inner;
      T* out = y + row * inner;
#pragma omp simd
      for (int64_t i = 0; i < inner; ++i) out[i] = f.value(in[i], other);
    });
  }
}

void run_binary_forward(const BinaryForward& args) {
  const View a = view(args.a), b = view(args.b), y = writable(args.y);
  with_binary(a.dtype, args.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    binary(f, pointer<T>(a), pointer<T>(b), pointer<T>(y), args.outer, b.count, args.inner);
  });
}

void run_affine(const Affine& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(x);
    T* out = pointer<T>(y);
    const T scale = T(a.scale), shift = T(a.shift);
    for_blocks(x.count, 1, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = scale * in[i] + shift;
    });
  });
}

void run_accumulate(const Accumulate& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(x);
    T* out = pointer<T>(y);
    const T scale = T(a.scale);
    for_blocks(x.count, 1, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] += scale * in[i];
    });
  });
}

// One row of bias_activation_forward. No bias: 0. `slope` may be x.
template <bool kBias, bool kSlope, class F, class T, class Out>
void bias_activation_row(F f, int64_t width, const T* x, const T* bias, Out* y, T* slope) {
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    const T at = kBias ? x[j] + bias[j] : x[j];
    put(y, j, f.value(at));
    if constexpr (kSlope) slope[j] = f.derivative(at);
  }
}

void run_bias_activation_forward(const BiasActivationForward& a) {
  const View x = view(a.x), bias = view(a.bias), y = writable(a.y),
             slope = a.slope ? writable(*a.slope) : View{};
  for_float_into(x.dtype, y.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    functional::with_unary(a.f, [&](auto f) {
      const int64_t width = columns(x);
      const T *in = pointer<T>(x), *shift = pointer<T>(bias);
      Out* out = pointer<Out>(y);
      T* slopes = pointer<T>(slope);
      for_each(rows(x), width * kExpensive, [=](int64_t row) {
        const int64_t at = row * width;
        if (slopes == nullptr && shift == nullptr)
          bias_activation_row<false, false>(f, width, in + at, shift, out + at, slopes);
        else if (slopes == nullptr)
          bias_activation_row<true, false>(f, width, in + at, shift, out + at, slopes);
        else if (shift == nullptr)
          bias_activation_row<false, true>(f, width, in + at, shift, out + at, slopes + at);
        else
          bias_activation_row<true, true>(f, width, in + at, shift, out + at, slopes + at);
      });
    });
  });
}

void run_bias_activation_backward(const BiasActivationBackward& a) {
  const View slope = view(a.slope), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  for_float_into(slope.dtype, grad_x.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    const T *factor = pointer<T>(slope), *gradient = pointer<T>(grad_y);
    Out* out = pointer<Out>(grad_x);
    for_blocks(slope.count, 1, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) put(out, i, gradient[i] * factor[i]);
    });
  });
}

void run_gated_forward(const GatedForward& a) {
  const View gate = view(a.gate), up = view(a.up), y = writable(a.y);
  with_unary(gate.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    const T *g = pointer<T>(gate), *u = pointer<T>(up);
    T* out = pointer<T>(y);
    for_blocks(gate.count, kExpensive, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = f.value(g[i]) * u[i];
    });
  });
}

void run_gated_backward(const GatedBackward& a) {
  const View gate = view(a.gate), up = view(a.up), grad_y = view(a.grad_y),
             grad_gate = writable(a.grad_gate), grad_up = writable(a.grad_up);
  with_unary(gate.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    const T *g = pointer<T>(gate), *u = pointer<T>(up), *gradient = pointer<T>(grad_y);
    T *to_gate = pointer<T>(grad_gate), *to_up = pointer<T>(grad_up);
    for_blocks(gate.count, kExpensive, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const T gate_i = g[i], up_i = u[i], gradient_i = gradient[i];
        to_gate[i] = gradient_i * up_i * f.derivative(gate_i);
        to_up[i] = gradient_i * f.value(gate_i);
      }
    });
  });
}

void run_dropout(const Dropout& a) {
  const View x = view(a.x), y = writable(a.y);
  const DropoutStream stream = dropout_stream(a.p, a.seed, a.offset);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* in = pointer<T>(x);
    T* out = pointer<T>(y);
    for_blocks(x.count, kExpensive, [=](int64_t begin, int64_t end) {
      constexpr int64_t kPiece = 512;
      T room[kPiece + kDropoutSlack];
      for (int64_t piece = begin; piece < end; piece += kPiece) {
        const int64_t count = smaller(kPiece, end - piece);
        const T* factor = draw_dropout(stream, uint64_t(piece), count, room);
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
          const T scaled = in[piece + i] * factor[i];
          out[piece + i] = factor[i] == T(0) ? T(0) : scaled;  // also where x is not finite
        }
      }
    });
  });
}

REVERIE_CPU_KERNEL(unary_forward, run_unary_forward);
REVERIE_CPU_KERNEL(unary_backward, run_unary_backward);
REVERIE_CPU_KERNEL(binary_forward, run_binary_forward);
REVERIE_CPU_KERNEL(affine, run_affine);
REVERIE_CPU_KERNEL(accumulate, run_accumulate);
REVERIE_CPU_KERNEL(bias_activation_forward, run_bias_activation_forward);
REVERIE_CPU_KERNEL(bias_activation_backward, run_bias_activation_backward);
REVERIE_CPU_KERNEL(gated_forward, run_gated_forward);
REVERIE_CPU_KERNEL(gated_backward, run_gated_backward);
REVERIE_CPU_KERNEL(dropout, run_dropout);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
