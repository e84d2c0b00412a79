#include "kernels/norm.h"

#include "kernels/cuda/sums.cuh"

namespace reverie::cuda {
namespace {

// A block for each row. Null weight: 1; null bias: 0; null residual: x is normalised as it is.
template <bool kWhole, class T, class Out>
__global__ void normalise(bool layer, const T* x, const T* residual, const T* weight, const T* bias,
                          T eps, int64_t rows, int64_t width, T* sum, Out* y, T* mean, T* rstd) {
  constexpr int kPack = kPackOf<T, Out>;
  const int64_t begin = int64_t(threadIdx.x) * kPack, step = int64_t(blockDim.x) * kPack;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* in = x + row * width;
    T total = 0;
    for (int64_t c = begin; c < width; c += step) {
      Pack<T, kPack> p = load<kWhole, kPack>(in + c, width - c);
      if (residual != nullptr) {
        const Pack<T, kPack> r = load<kWhole, kPack>(residual + row * width + c, width - c);
        for (int k = 0; k < kPack; ++k) p.at[k] += r.at[k];
        store<kWhole, kPack>(sum + row * width + c, p, width - c);
      }
      for (int k = 0; k < kPack; ++k) total += p.at[k];
    }
    if (residual != nullptr) in = sum + row * width;  // each thread reads what it wrote
    const T centre = layer ? over_block(total, Sum{}, T(0)) / T(width) : T(0);
    T squares = 0;
    for (int64_t c = begin; c < width; c += step) {
      const Pack<T, kPack> p = load<kWhole, kPack>(in + c, width - c);
      for (int k = 0; k < kPack; ++k) {
        const T offset = c + k < width ? p.at[k] - centre : T(0);
        squares += offset * offset;
      }
    }
    const T scale = T(1) / fmath::sqrt(over_block(squares, Sum{}, T(0)) / T(width) + eps);
    if (threadIdx.x == 0) {
      if (layer) mean[row] = centre;
      rstd[row] = scale;
    }
    for (int64_t c = begin; c < width; c += step) {
      const Pack<T, kPack> p = load<kWhole, kPack>(in + c, width - c);
      Pack<T, kPack> w, b;
      for (int k = 0; k < kPack; ++k) {
        w.at[k] = 1;
        b.at[k] = 0;
      }
      if (weight != nullptr) w = load<kWhole, kPack>(weight + c, width - c);
      if (bias != nullptr) b = load<kWhole, kPack>(bias + c, width - c);
      Pack<Out, kPack> out;
      for (int k = 0; k < kPack; ++k)
        out.at[k] = stored<Out>((p.at[k] - centre) * scale * w.at[k] + b.at[k]);
      store<kWhole, kPack>(y + row * width + c, out, width - c);
    }
  }
}

void run_norm_forward(const NormForward& a) {
  const View x = view(a.x), residual = view(a.residual), weight = view(a.weight),
             bias = view(a.bias), y = writable(a.y), rstd = writable(a.rstd),
             mean = a.kind == Norm::layer ? writable(a.mean) : View{},
             sum = residual.data != nullptr ? writable(a.sum) : View{};
  for_float_into(x.dtype, y.dtype, [&](auto zero, auto out_zero) {
    using T = decltype(zero);
    using Out = decltype(out_zero);
    constexpr int kPack = kPackOf<T, Out>;
    const int64_t width = columns(x);
    const bool whole = width % kPack == 0 && on_pack_boundaries({x.data, residual.data, weight.data,
                                                                 bias.data, y.data, sum.data});
    with_choice(whole, [&](auto choice) {
      Launch(blocks_for(rows(x), 1), threads_for((width + kPack - 1) / kPack))(
          normalise<decltype(choice)::value, T, Out>, a.kind == Norm::layer, pointer<const T>(x),
          pointer<const T>(residual), pointer<const T>(weight), pointer<const T>(bias), T(a.eps),
          rows(x), width, pointer<T>(sum), pointer<Out>(y), pointer<T>(mean), pointer<T>(rstd));
    });
  });
}

// With xhat = (x - mean) * rstd and g = grad_y * weight:
// grad_x = rstd * (g - average(g) - xhat * average(g * xhat)), without average(g) for rms.
template <bool kWhole, class T>
__global__ void gradient_of_rows(bool layer, const T* x, const T* weight, const T* mean,
                                 const T* rstd, const T* grad_y, const T* grad_sum, int64_t rows,
                                 int64_t width, T* grad_x) {
  constexpr int kPack = kPackOf<T>;
  const int64_t begin = int64_t(threadIdx.x) * kPack, step = int64_t(blockDim.x) * kPack;
  const auto weighted = [&](int64_t row, int64_t c) {
    Pack<T, kPack> g = load<kWhole, kPack>(grad_y + row * width + c, width - c);
    if (weight != nullptr) {
      const Pack<T, kPack> w = load<kWhole, kPack>(weight + c, width - c);
      for (int k = 0; k < kPack; ++k) g.at[k] *= w.at[k];
    }
    return g;
  };
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T centre = layer ? mean[row] : T(0), scale = rstd[row];
    T total = 0, dot = 0;
    for (int64_t c = begin; c < width; c += step) {
      const Pack<T, kPack> g = weighted(row, c),
                           p = load<kWhole, kPack>(x + row * width + c, width - c);
      for (int k = 0; k < kPack; ++k) {
        total += g.at[k];
        dot += g.at[k] * ((p.at[k] - centre) * scale);
      }
    }
    const T average = layer ? over_block(total, Sum{}, T(0)) / T(width) : T(0);
    dot = over_block(dot, Sum{}, T(0)) / T(width);
    for (int64_t c = begin; c < width; c += step) {
      Pack<T, kPack> g = weighted(row, c);
      const Pack<T, kPack> p = load<kWhole, kPack>(x + row * width + c, width - c);
      for (int k = 0; k < kPack; ++k)
        g.at[k] = scale * (g.at[k] - average - (p.at[k] - centre) * scale * dot);
      if (grad_sum != nullptr) {
        const Pack<T, kPack> s = load<kWhole, kPack>(grad_sum + row * width + c, width - c);
        for (int k = 0; k < kPack; ++k) g.at[k] += s.at[k];
      }
      store<kWhole, kPack>(grad_x + row * width + c, g, width - c);
    }
  }
}

// Of a chunk of rows, a thread for each column: sums of grad_y * xhat and of grad_y.
template <class T>
__global__ void gradient_of_columns(const T* x, const T* mean, const T* rstd, const T* grad_y,
                                    int64_t rows, int64_t width, int64_t height, T* of_weight,
                                    T* of_bias) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= width) return;
  const int64_t begin = int64_t(blockIdx.y) * height,
                end = begin + height < rows ? begin + height : rows;
  T weight = 0, bias = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T g = grad_y[row * width + c], centre = mean == nullptr ? T(0) : mean[row];
    weight += g * ((x[row * width + c] - centre) * rstd[row]);
    bias += g;
  }
  of_weight[blockIdx.y * width + c] = weight;
  of_bias[blockIdx.y * width + c] = bias;
}

template <class T>
void run_gradients(const NormBackward& a) {
  constexpr int kPack = kPackOf<T>;
  const bool layer = a.kind == Norm::layer;
  const View x = view(a.x), weight = view(a.weight), mean = layer ? view(a.mean) : View{},
             rstd = view(a.rstd), grad_y = view(a.grad_y), grad_sum = view(a.grad_sum),
             grad_x = writable(a.grad_x), grad_weight = writable(a.grad_weight),
             grad_bias = writable(a.grad_bias);
  const int64_t count = rows(x), width = columns(x);
  if (grad_weight.data != nullptr || grad_bias.data != nullptr) {
    const int64_t height = rows_per_chunk(count),
                  chunks = std::max<int64_t>(1, (count + height - 1) / height);
    Tensor partial = scratch(2 * chunks * width, dtype_of<T>);
    auto* of_weight = static_cast<T*>(partial.mutable_raw());
    T* of_bias = of_weight + chunks * width;
    const int threads = threads_for(width, 128);
    Launch((width + threads - 1) / threads, chunks, threads)(
        gradient_of_columns<T>, pointer<const T>(x), pointer<const T>(mean), pointer<const T>(rstd),
        pointer<const T>(grad_y), count, width, height, of_weight, of_bias);
    if (grad_weight.data != nullptr)
      run_add_chunks(static_cast<const T*>(of_weight), 1, chunks, width, 1.0, false,
                     pointer<T>(grad_weight));
    if (grad_bias.data != nullptr)
      run_add_chunks(static_cast<const T*>(of_bias), 1, chunks, width, 1.0, false,
                     pointer<T>(grad_bias));
  }
  if (grad_x.data == nullptr) return;
  const bool whole = width % kPack == 0 && on_pack_boundaries({x.data, weight.data, grad_y.data,
                                                               grad_sum.data, grad_x.data});
  with_choice(whole, [&](auto choice) {
    Launch(blocks_for(count, 1), threads_for((width + kPack - 1) / kPack))(
        gradient_of_rows<decltype(choice)::value, T>, layer, pointer<const T>(x),
        pointer<const T>(weight), pointer<const T>(mean), pointer<const T>(rstd),
        pointer<const T>(grad_y), pointer<const T>(grad_sum), count, width, pointer<T>(grad_x));
  });
}
void run_norm_backward(const NormBackward& a) {
  for_float(view(a.x).dtype, [&](auto zero) { run_gradients<decltype(zero)>(a); });
}

REVERIE_CUDA_KERNEL(norm_forward, run_norm_forward);
REVERIE_CUDA_KERNEL(norm_backward, run_norm_backward);

}  // namespace
}  // namespace reverie::cuda
