#pragma once
/// In what linear(), linear_cross_entropy() and attention multiply.

#include "core/tensor.h"

namespace reverie {

/// full: in the dtype of their operands. bf16: f32 operands (activations, weights, cotangents) are
/// rounded to bf16; sums, results, weights and their gradients stay in f32. Within attention, the
/// weights of values and dL/dscores are rounded likewise (grouped_attention stays full); the
/// forward passes of norms and everything else are not touched. What an op rounded for its forward
/// pass its backward pass uses again (Micikevicius et al. 2018, mixed precision training). For it,
/// attention, norms, and gated or activated layers keep their activations in bf16, and statistics
/// of norms and softmax in f32.
enum class MatmulPrecision : uint8_t { full, bf16 };

/// This thread's precision; full unless a scope says otherwise.
MatmulPrecision matmul_precision();

/// While one is alive on this thread, forward passes use the given precision.
class MatmulPrecisionScope {
 public:
  explicit MatmulPrecisionScope(MatmulPrecision);
  ~MatmulPrecisionScope();
  MatmulPrecisionScope(const MatmulPrecisionScope&) = delete;
  MatmulPrecisionScope& operator=(const MatmulPrecisionScope&) = delete;

 private:
  MatmulPrecision before_;
};

/// What reads a result. matmul: only matrix products do, so that an op may store it in bf16 where
/// products are in bf16, rounded as the product would round it. Its cotangent is f32 all the same.
enum class ReadBy : uint8_t { any, matmul };
/// The dtype to store it in, computed in `dtype`.
DType stored_dtype(MatmulPrecision, ReadBy, DType dtype);

/// x as an operand of a product in precision p: in bf16 where p says so and x is f32, else itself.
/// Weights that lie in bf16 already (core/compact_weights.h, core/rounded_copy.h) are not copied,
/// and compact ones on a GPU are x itself: products round them as they read them
/// (kernels/matmul.h).
Tensor rounded_for(MatmulPrecision p, const Tensor& x);

}  // namespace reverie
