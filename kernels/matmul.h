#pragma once
/// Matrix products.

#include "core/compact_weights.h"
#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// c [.., M, N] = alpha * a [.., M, K] b [.., K, N] (+ c if accumulate). Rank 2, or rank 3 with a
/// batch (b of rank 2 is shared by the batch). a and b may be transposed views (last two
/// dimensions: one stride must be 1, the other >= the row length); c is row-major with any row
/// stride. a, b and c are of one dtype, f32 or f64, or a and b are bf16 and c is f32: then products
/// are exact and sums are in f32. f32 goes to the library (oneDNN, CBLAS), f64 to our own tiles;
/// bf16 goes to oneDNN where has_bf16_dot_products(), and is widened to f32 elsewhere. b of f32 may
/// be compact (core/compact_weights.h), which products read as it is stored; where
/// read_as_stored(b), beside an a of bf16, too: then b's elements are rounded to bf16 as they are
/// read.
struct Matmul {
  const Tensor& a;
  const Tensor& b;
  double alpha;
  bool accumulate;
  Tensor& c;
};
/// Whether b, or its transpose, is whole rows of compact weights on a GPU, or counts as on one.
bool read_as_stored(const Tensor& b);
inline void check(const Matmul& a) {
  const Demands demand{"matmul"};
  demand.defined("a", a.a);
  const bool rounds_b = a.a.dtype() == DType::bf16 && read_as_stored(a.b);
  if (!rounds_b || a.a.device() != a.b.device()) demand.alike("b", a.b, "a", a.a);
  if (a.a.dtype() == DType::bf16) {
    demand.defined("c", a.c);
    require(a.c.dtype() == DType::f32 && a.c.device() == a.a.device(),
            "matmul: c is {}; wanted f32 on the device of a {}", a.c, a.a);
  } else {
    demand.floating("a", a.a);
    demand.alike("c", a.c, "a", a.a);
  }
  const int rank = a.a.rank();
  require(rank == 2 || rank == 3, "matmul: a is {}; wanted 2 or 3 dimensions", a.a);
  require(a.c.rank() == rank && (a.b.rank() == rank || a.b.rank() == 2),
          "matmul: a {}, b {} and c {} differ in rank", a.a, a.b, a.c);
  require(a.a.size(-1) == a.b.size(-2), "matmul: a {} has {} columns but b {} has {} rows", a.a,
          a.a.size(-1), a.b, a.b.size(-2));
  require(a.c.size(-2) == a.a.size(-2) && a.c.size(-1) == a.b.size(-1),
          "matmul: c is {}; wanted {} rows and {} columns", a.c, a.a.size(-2), a.b.size(-1));
  if (rank == 3) {
    require(a.c.size(0) == a.a.size(0) && (a.b.rank() == 2 || a.b.size(0) == a.a.size(0)),
            "matmul: the batches of a {}, b {} and c {} differ", a.a, a.b, a.c);
  }
  demand.matrix("a", a.a);
  demand.matrix("b", a.b);
  require((a.c.strides()[-1] == 1 || a.c.size(-1) <= 1) &&
              (a.c.strides()[-2] >= a.c.size(-1) || a.c.size(-2) <= 1),
          "matmul: c {} with strides {} must be row-major", a.c, a.c.strides());
}
inline profile::Work work(const Matmul& a) {
  return {2.0 * double(a.c.numel()) * double(a.a.size(-1)),
          touched(a.a, a.c).bytes + double(stored_bytes(a.b))};
}
namespace kernel {
inline constinit Kernel<Matmul> matmul{"matmul"};
}

/// b beside operands of `dtype`, for whoever multiplies by it many times: itself, or a copy in that
/// type where read_as_stored(b), so that it is widened once.
Tensor wide_operand(const Tensor& b, DType dtype);

/// A GPU's products widen compact weights in panels of about so many numbers: 2^24, unless a test
/// sets another. A panel in f32 takes 64 MiB.
int64_t numbers_of_panel();
void set_numbers_of_panel(int64_t);

/// Two products of which neither's c is an operand of the other, as the two of a linear layer's
/// backward pass. Where two threads multiply on the CPU, each takes a product of its own: that is
/// faster than both at one and then at the other, which meet twice and pack some operands twice.
struct MatmulPair {
  Matmul first, second;
};
inline void check(const MatmulPair& a) {
  check(a.first);
  check(a.second);
  require(a.first.c.device() == a.second.c.device(), "matmul_pair: c {} and {} on two devices",
          a.first.c, a.second.c);
}
inline profile::Work work(const MatmulPair& a) {
  const profile::Work first = work(a.first), second = work(a.second);
  return {first.flops + second.flops, first.bytes + second.bytes};
}
namespace kernel {
inline constinit Kernel<MatmulPair> matmul_pair{"matmul_pair"};
}

/// Implementation of f32 products on the CPU: the library, or our own tiles (always those for f64,
/// and for batches of small products). Environment REVERIE_GEMM=library|own decides (anything else,
/// or a library this build lacks, is ConfigError); set_gemm overrides.
enum class GemmChoice : uint8_t { library, own };
GemmChoice gemm();
void set_gemm(GemmChoice);
/// Name and version of what is behind f32, for reports ("oneDNN 2.6.3").
const char* matmul_library();
/// Whether bf16 products are faster than f32 here: the machine has AVX512_BF16, the active
/// instruction set is avx512, and products go to oneDNN.
bool has_bf16_dot_products();

}  // namespace reverie
