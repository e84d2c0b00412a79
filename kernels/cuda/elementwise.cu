#include "kernels/elementwise.h"

#include "core/random.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/functional.h"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256;

// out[i] = f(in[i]...), a pack a thread. An input may be the output.
template <bool kWhole, class F, class Out, class... In>
__global__ void map(F f, int64_t count, Out* out, const In*... in) {
  constexpr int kPack = kPackOf<Out, In...>;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kPack;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; i < count; i += step) {
    const auto of_packs = [&](const Pack<In, kPack>&... p) {
      Pack<Out, kPack> y;
      for (int k = 0; k < kPack; ++k) y.at[k] = stored<Out>(f(p.at[k]...));
      return y;
    };
    store<kWhole, kPack>(out + i, of_packs(load<kWhole, kPack>(in + i, count - i)...), count - i);
  }
}
template <class F, class Out, class... In>
void run_map(F f, int64_t count, Out* out, const In*... in) {
  with_choice(on_pack_boundaries({out, in...}), [&](auto whole) {
    void (*kernel)(F, int64_t, Out*, const In*...) = map<decltype(whole)::value, F, Out, In...>;
    Launch(blocks_for(count, int64_t(kThreads) * kPackOf<Out, In...>), kThreads)(kernel, f, count,
                                                                                 out, in...);
  });
}

// out[r, c] = f(column[c], in[r, c]...); no column: zeros.
template <bool kWhole, class F, class T, class Out, class... In>
__global__ void map_rows(F f, int64_t rows, int64_t columns, const T* column, Out* out,
                         const In*... in) {
  constexpr int kPack = kPackOf<T, Out, In...>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t c = int64_t(threadIdx.x) * kPack; c < columns; c += int64_t(blockDim.x) * kPack) {
      const int64_t i = row * columns + c, left = columns - c;
      const auto of_packs = [&](const Pack<T, kPack>& s, const Pack<In, kPack>&... p) {
        Pack<Out, kPack> y;
        for (int k = 0; k < kPack; ++k) y.at[k] = stored<Out>(f(s.at[k], p.at[k]...));
        return y;
      };
      const Pack<T, kPack> shared =
          column == nullptr ? Pack<T, kPack>{} : load<kWhole, kPack>(column + c, left);
      store<kWhole, kPack>(out + i, of_packs(shared, load<kWhole, kPack>(in + i, left)...), left);
    }
  }
}
template <class F, class T, class Out, class... In>
void run_map_rows(F f, int64_t rows, int64_t columns, const T* column, Out* out, const In*... in) {
  constexpr int kPack = kPackOf<T, Out, In...>;
  const bool whole = columns % kPack == 0 && on_pack_boundaries({column, out, in...});
  with_choice(whole, [&](auto choice) {
    void (*kernel)(F, int64_t, int64_t, const T*, Out*, const In*...) =
        map_rows<decltype(choice)::value, F, T, Out, In...>;
    Launch(blocks_for(rows, 1), threads_for((columns + kPack - 1) / kPack))(
        kernel, f, rows, columns, column, out, in...);
  });
}

// out[r, c] = f(in[r, c], of_row[r % middle]).
template <class F, class T>
__global__ void map_with_row(F f, int64_t rows, int64_t middle, int64_t columns, const T* of_row,
                             const T* in, T* out) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T other = of_row[row % middle];
    for (int64_t i = row * columns + threadIdx.x; i < (row + 1) * columns; i += blockDim.x)
      out[i] = f(in[i], other);
  }
}

template <class F>
struct Value {
  template <class T>
  __device__ T operator()(T x) const {
    return F::value(x);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return F::value(a, b);
  }
};
template <class F>
struct ValueOfSwapped {
  template <class T>
  __device__ T operator()(T b, T a) const {
    return F::value(a, b);
  }
};
template <class F>
struct Derivative {
  template <class T>
  __device__ T operator()(T x, T grad_y) const {
    return grad_y * F::derivative(x);
  }
};
template <class F>
struct ValueAfterBias {
  template <class T>
  __device__ T operator()(T bias, T x) const {
    return F::value(x + bias);
  }
};
struct Product {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a * b;
  }
};
template <class F>
struct Gated {
  template <class T>
  __device__ T operator()(T gate, T up) const {
    return F::value(gate) * up;
  }
};
template <class T>
struct ScaleAndShift {
  T scale, shift;
  __device__ T operator()(T x) const { return scale * x + shift; }
};
template <class T>
struct AddScaled {
  T scale;
  __device__ T operator()(T y, T x) const { return y + scale * x; }
};

// body(functor, T(0)).
template <class Body>
void with_unary(DType dtype, Unary f, const Body& body) {
  for_float(dtype, [&](auto zero) {
    functional::with_unary(f, [&](auto functor) { body(functor, zero); });
  });
}

void run_unary_forward(const UnaryForward& a) {
  const View x = view(a.x), y = writable(a.y);
  with_unary(x.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    run_map(Value<decltype(f)>{}, x.count, pointer<T>(y), pointer<const T>(x));
  });
}

void run_unary_backward(const UnaryBackward& a) {
  const View x = view(a.x), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  with_unary(x.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    run_map(Derivative<decltype(f)>{}, x.count, pointer<T>(grad_x), pointer<const T>(x),
            pointer<const T>(grad_y));
  });
}

void run_binary_forward(const BinaryForward& args) {
  const View a = view(args.a), b = view(args.b), y = writable(args.y);
  const int64_t rows = args.outer, inner = args.inner, middle = b.count;
  for_float(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    functional::with_binary(args.f, [&](auto f) {
      using F = decltype(f);
      const T *left = pointer<const T>(a), *right = pointer<const T>(b);
      if (rows == 1 && inner == 1)
        run_map(Value<F>{}, middle, pointer<T>(y), left, right);
      else if (inner == 1)
        run_map_rows(ValueOfSwapped<F>{}, rows, middle, right, pointer<T>(y), left);
      else
        Launch(blocks_for(rows * middle, 1), threads_for(inner))(map_with_row<Value<F>, T>,
                                                                 Value<F>{}, rows * middle, middle,
                                                                 inner, right, left, pointer<T>(y));
    });
  });
}

void run_affine(const Affine& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    run_map(ScaleAndShift<T>{T(a.scale), T(a.shift)}, x.count, pointer<T>(y), pointer<const T>(x));
  });
}

void run_accumulate(const Accumulate& a) {
  const View x = view(a.x), y = writable(a.y);
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    run_map(AddScaled<T>{T(a.scale)}, x.count, pointer<T>(y), pointer<const T>(y),
            pointer<const T>(x));
  });
}

// y = f(x + bias) and slope = f'(x + bias); slope may be x. No bias: zeros.
template <bool kWhole, class F, class T, class Out>
__global__ void value_and_slope(int64_t rows, int64_t columns, const T* bias, const T* x, Out* y,
                                T* slope) {
  constexpr int kPack = kPackOf<T, Out>;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t c = int64_t(threadIdx.x) * kPack; c < columns; c += int64_t(blockDim.x) * kPack) {
      const int64_t i = row * columns + c, left = columns - c;
      const Pack<T, kPack> shift =
          bias == nullptr ? Pack<T, kPack>{} : load<kWhole, kPack>(bias + c, left);
      Pack<T, kPack> p = load<kWhole, kPack>(x + i, left);
      Pack<Out, kPack> value;
      for (int k = 0; k < kPack; ++k) {
        const T at = p.at[k] + shift.at[k];
        value.at[k] = stored<Out>(F::value(at));
        p.at[k] = F::derivative(at);
      }
      store<kWhole, kPack>(y + i, value, left);
      store<kWhole, kPack>(slope + i, p, left);
    }
  }
}

void run_bias_activation_forward(const BiasActivationForward& a) {
  const View x = view(a.x), bias = view(a.bias), y = writable(a.y),
             slope = a.slope ? writable(*a.slope) : View{};
  for_float_into(x.dtype, y.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    functional::with_unary(a.f, [&](auto f) {
      using F = decltype(f);
      const int64_t width = columns(x);
      const T *shift = pointer<const T>(bias), *in = pointer<const T>(x);
      Out* out = pointer<Out>(y);
      if (!a.slope) return run_map_rows(ValueAfterBias<F>{}, rows(x), width, shift, out, in);
      T* slopes = pointer<T>(slope);
      constexpr int kPack = kPackOf<T, Out>;
      with_choice(width % kPack == 0 && on_pack_boundaries({shift, in, out, slopes}),
                  [&](auto whole) {
                    Launch(blocks_for(rows(x), 1), threads_for((width + kPack - 1) / kPack))(
                        value_and_slope<decltype(whole)::value, F, T, Out>, rows(x), width, shift,
                        in, out, slopes);
                  });
    });
  });
}

void run_bias_activation_backward(const BiasActivationBackward& a) {
  const View slope = view(a.slope), grad_y = view(a.grad_y), grad_x = writable(a.grad_x);
  for_float_into(slope.dtype, grad_x.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    run_map(Product{}, slope.count, pointer<Out>(grad_x), pointer<const T>(slope),
            pointer<const T>(grad_y));
  });
}

void run_gated_forward(const GatedForward& a) {
  const View gate = view(a.gate), up = view(a.up), y = writable(a.y);
  with_unary(gate.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    run_map(Gated<decltype(f)>{}, gate.count, pointer<T>(y), pointer<const T>(gate),
            pointer<const T>(up));
  });
}

template <bool kWhole, class F, class T>
__global__ void gated_backward(int64_t count, const T* gate, const T* up, const T* grad_y,
                               T* grad_gate, T* grad_up) {
  constexpr int kPack = kPackOf<T>;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kPack;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; i < count; i += step) {
    const int64_t left = count - i;
    Pack<T, kPack> g = load<kWhole, kPack>(gate + i, left), u = load<kWhole, kPack>(up + i, left);
    const Pack<T, kPack> d = load<kWhole, kPack>(grad_y + i, left);
    for (int k = 0; k < kPack; ++k) {
      u.at[k] = d.at[k] * u.at[k] * F::derivative(g.at[k]);
      g.at[k] = d.at[k] * F::value(g.at[k]);
    }
    store<kWhole, kPack>(grad_gate + i, u, left);
    store<kWhole, kPack>(grad_up + i, g, left);
  }
}
void run_gated_backward(const GatedBackward& a) {
  const View gate = view(a.gate), up = view(a.up), grad_y = view(a.grad_y),
             grad_gate = writable(a.grad_gate), grad_up = writable(a.grad_up);
  with_unary(gate.dtype, a.f, [&](auto f, auto zero) {
    using T = decltype(zero);
    const auto whole =
        on_pack_boundaries({gate.data, up.data, grad_y.data, grad_gate.data, grad_up.data});
    with_choice(whole, [&](auto choice) {
      Launch(blocks_for(gate.count, int64_t(kThreads) * kPackOf<T>), kThreads)(
          gated_backward<decltype(choice)::value, decltype(f), T>, gate.count,
          pointer<const T>(gate), pointer<const T>(up), pointer<const T>(grad_y),
          pointer<T>(grad_gate), pointer<T>(grad_up));
    });
  });
}

// A thread takes the four numbers of one Philox block.
template <bool kWhole, class T>
__global__ void drop(int64_t count, uint32_t threshold, T scale, uint64_t seed, uint64_t offset,
                     const T* x, T* y) {
  constexpr int kPack = kPackOf<T>;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t block = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; block * 4 < count;
       block += step) {
    const Philox4 draw = philox(seed, offset + uint64_t(block));
    for (int part = 0; part < 4; part += kPack) {
      const int64_t i = block * 4 + part, left = count - i;
      if (left <= 0) break;
      Pack<T, kPack> p = load<kWhole, kPack>(x + i, left);
      for (int k = 0; k < kPack; ++k)
        p.at[k] = (draw.v[part + k] >> 8) >= threshold ? p.at[k] * scale : T(0);
      store<kWhole, kPack>(y + i, p, left);
    }
  }
}
void run_dropout(const Dropout& a) {
  const View x = view(a.x), y = writable(a.y);
  // Number n is kept where its 24 bits are at least p * 2^24, as on the CPU.
  const auto threshold = uint32_t(std::ceil(a.p * 16777216.0));
  for_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_choice(on_pack_boundaries({x.data, y.data}), [&](auto whole) {
      Launch(blocks_for((x.count + 3) / 4, kThreads), kThreads)(
          drop<decltype(whole)::value, T>, x.count, threshold, T(1.0 / (1.0 - a.p)), a.seed,
          a.offset, pointer<const T>(x), pointer<T>(y));
    });
  });
}

REVERIE_CUDA_KERNEL(unary_forward, run_unary_forward);
REVERIE_CUDA_KERNEL(unary_backward, run_unary_backward);
REVERIE_CUDA_KERNEL(binary_forward, run_binary_forward);
REVERIE_CUDA_KERNEL(affine, run_affine);
REVERIE_CUDA_KERNEL(accumulate, run_accumulate);
REVERIE_CUDA_KERNEL(bias_activation_forward, run_bias_activation_forward);
REVERIE_CUDA_KERNEL(bias_activation_backward, run_bias_activation_backward);
REVERIE_CUDA_KERNEL(gated_forward, run_gated_forward);
REVERIE_CUDA_KERNEL(gated_backward, run_gated_backward);
REVERIE_CUDA_KERNEL(dropout, run_dropout);

}  // namespace
}  // namespace reverie::cuda
