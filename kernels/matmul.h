#pragma once
// Matrix products.

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// c [.., M, N] = alpha * a [.., M, K] b [.., K, N] (+ c if accumulate). Rank 2, or rank 3 with a
// batch (b of rank 2 is shared by the batch). a and b may be transposed views (last two dimensions:
// one stride must be 1, the other >= the row length); c is row-major with any row stride. a, b and
// c are of one dtype, f32 or f64, or a and b are bf16 and c is f32: then products are exact and
// sums are in f32. f32 goes to the library (oneDNN, CBLAS), f64 to our own tiles; bf16 goes to
// oneDNN where has_bf16_dot_products(), and is widened to f32 elsewhere.
struct Matmul {
  const Tensor& a;
  const Tensor& b;
  double alpha;
  bool accumulate;
  Tensor& c;
};
void check(const Matmul&);
profile::Work work(const Matmul&);
namespace kernel {
inline constinit Kernel<Matmul> matmul{"matmul"};
}

// Two products of which neither's c is an operand of the other, as the two of a linear layer's
// backward pass. Where two threads multiply on the CPU, each takes a product of its own: that is
// faster than both at one and then at the other, which meet twice and pack some operands twice.
struct MatmulPair {
  Matmul first, second;
};
void check(const MatmulPair&);
profile::Work work(const MatmulPair&);
namespace kernel {
inline constinit Kernel<MatmulPair> matmul_pair{"matmul_pair"};
}

// Implementation of f32 products on the CPU: the library, or our own tiles (always those for f64,
// and for batches of small products). Environment REVERIE_GEMM=library|own decides (anything else,
// or a library this build lacks, is ConfigError); set_gemm overrides.
enum class GemmChoice : uint8_t { library, own };
GemmChoice gemm();
void set_gemm(GemmChoice);
// Name and version of what is behind f32, for reports ("oneDNN 2.6.3").
const char* matmul_library();
// Whether bf16 products are faster than f32 here: the machine has AVX512_BF16, the active
// instruction set is avx512, and products go to oneDNN.
bool has_bf16_dot_products();

}  // namespace reverie
