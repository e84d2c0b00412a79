#include "kernels/cuda/compact_rows.h"

#include "kernels/copy.h"
#include "kernels/cuda/compact_blocks.cuh"

namespace reverie::cuda {
namespace {

constexpr int kThreads = 256, kWarpsOfProduct = 4, kFewRows = 4;

template <class Type, class Out, bool kWhole>
__global__ void widen_blocks(const uint8_t* in, int64_t count, Out* y) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kFour;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kFour; i < count; i += step) {
    const Four four = four_of<Type>(in, i, count - i);
    Pack<Out, kFour> out;
    for (int k = 0; k < kFour; ++k) out.at[k] = stored<Out>(four.at[k]);
    store<kWhole, kFour>(y + i, out, count - i);
  }
}

// Rows follow each other without gaps, so that their blocks are one row.
void run_widen_rows(const WidenRows& a) {
  const CompactRows weights = *compact_rows(a.weights);
  const View y = writable(a.y);
  const Launch launch(blocks_for(y.count, int64_t(kThreads) * kFour), kThreads);
  for_type(weights.type, [&](auto type) {
    with_choice(on_pack_boundaries({y.data}), [&](auto whole) {
      constexpr bool kWhole = decltype(whole)::value;
      if (y.dtype == DType::f32)
        launch(widen_blocks<decltype(type), float, kWhole>, bytes_of(weights), y.count,
               pointer<float>(y));
      else
        launch(widen_blocks<decltype(type), uint16_t, kWhole>, bytes_of(weights), y.count,
               pointer<uint16_t>(y));
    });
  });
}

// An operand, and a weight beside such operands: f32, or bf16 as its bits.
__device__ float number_of(float x) {
  return x;
}
__device__ float number_of(uint16_t bits) {
  return float_of_bf16(bits);
}
template <class A>
__device__ float weight_beside(float weight) {
  return number_of(stored<A>(weight));
}

struct FewRows {
  const uint8_t* weights;
  int64_t row_bytes, outputs;
  int columns, rows;  // of a
  int64_t a_row, c_row;
  float alpha;
  bool accumulate;
};

// A warp for each row of weights; its lanes take four elements at a time.
template <class Type, class A, int kRows>
__global__ void multiply_blocks(FewRows p, const A* a, const float* bias, float* c) {
  const int64_t step = int64_t(gridDim.x) * kWarpsOfProduct;
  for (int64_t j = int64_t(blockIdx.x) * kWarpsOfProduct + warp_number(); j < p.outputs;
       j += step) {
    const uint8_t* row = p.weights + j * p.row_bytes;
    float sums[kRows] = {};
    for (int i = lane_number() * kFour; i < p.columns; i += kWarpSize * kFour) {
      const Four weights = four_of<Type>(row, i, p.columns - i);
      for (int r = 0; r < kRows; ++r) {
        if (kRows > 1 && r >= p.rows) break;
        const Pack<A, kFour> x = load<true, kFour>(a + r * p.a_row + i, p.columns - i);
        for (int k = 0; k < kFour; ++k)
          sums[r] += number_of(x.at[k]) * weight_beside<A>(weights.at[k]);
      }
    }
    for (int r = 0; r < kRows; ++r) sums[r] = over_warp(sums[r], Sum{});
    if (lane_number() != 0) continue;
    for (int r = 0; r < kRows; ++r) {
      if (r >= p.rows) break;
      float& to = c[r * p.c_row + j];
      const float sum = p.alpha * sums[r] + (bias == nullptr ? 0.0f : bias[j]);
      to = p.accumulate ? to + sum : sum;
    }
  }
}

template <class Type, class A>
void launch_product(const FewRows& p, const View& a, const View& bias, const View& c) {
  const Launch launch(blocks_for(p.outputs, kWarpsOfProduct), kWarpsOfProduct * kWarpSize);
  const auto* from = pointer<const A>(a);
  const auto* shift = pointer<const float>(bias);
  if (p.rows == 1)
    launch(multiply_blocks<Type, A, 1>, p, from, shift, pointer<float>(c));
  else
    launch(multiply_blocks<Type, A, kFewRows>, p, from, shift, pointer<float>(c));
}

// a, or a copy of it, with rows on boundaries of four elements.
Tensor rows_on_boundaries(const Tensor& a) {
  const bool apart = a.size(0) > 1 && a.strides()[0] % kFour != 0;
  if (a.strides()[1] == 1 && !apart &&
      reinterpret_cast<uintptr_t>(a.raw()) % (kFour * size_of(a.dtype())) == 0)
    return a;
  Tensor copy = Tensor::empty(a.shape(), a.dtype(), a.device());
  kernel::strided_copy(a.device(), {a, false, copy});
  return copy;
}

REVERIE_CUDA_KERNEL(widen_rows, run_widen_rows);

}  // namespace

bool multiply_few_rows(const Matmul& args, const Tensor& bias) {
  if (!is_compact(args.b) || args.b.rank() != 2) return false;
  const auto weights = compact_rows(args.b.transpose(0, 1));
  if (!weights || weights->columns % kFour != 0 || weights->columns > INT32_MAX) return false;
  Tensor a = args.a, c = args.c;
  if (a.rank() == 3) {
    if (!a.is_contiguous() || !c.is_contiguous()) return false;
    a = a.view({-1, a.size(-1)});
    c = c.view({-1, c.size(-1)});
  }
  if (a.size(0) == 0 || a.size(0) > kFewRows) return false;
  a = rows_on_boundaries(a);
  const FewRows p{bytes_of(*weights), weights->row_bytes, weights->rows,
                  int(a.size(1)),     int(a.size(0)),     a.strides()[0],
                  c.strides()[0],     float(args.alpha),  args.accumulate};
  const View from = view(a), shift = view(bias), to = writable(c);
  for_type(weights->type, [&](auto type) {
    if (from.dtype == DType::bf16)
      launch_product<decltype(type), uint16_t>(p, from, shift, to);
    else
      launch_product<decltype(type), float>(p, from, shift, to);
  });
  return true;
}

}  // namespace reverie::cuda
