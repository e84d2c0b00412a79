#pragma once
/// Normalisation with the residual addition fused.

#include "autograd/op.h"
#include "autograd/precision.h"
#include "kernels/norm.h"

namespace reverie {

/// Layer norm over the last dimension (Ba et al. 2016): (x - mean) / sqrt(var + eps) * weight +
/// bias; weight and bias [C] may be undefined. `read_by`: what
/// reads the normed values (autograd/precision.h).
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps,
                    ReadBy read_by = ReadBy::any);
/// RMS norm (Zhang & Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight.
Variable rms_norm(const Variable& x, const Variable& weight, double eps,
                  ReadBy read_by = ReadBy::any);

struct ResidualNorm {
  Variable sum, normed;
};
/// sum = x + residual; normed = norm(sum). One pass over memory instead of two.
ResidualNorm residual_norm(Norm kind, const Variable& x, const Variable& residual,
                           const Variable& weight, const Variable& bias, double eps,
                           ReadBy read_by = ReadBy::any);

}  // namespace reverie
