#pragma once
/// Sums, means and running sums along a dimension, and softmax.

#include "autograd/op.h"

namespace reverie {

Variable sum(const Variable& x, int dim);   ///< dimension dropped
Variable mean(const Variable& x, int dim);  ///< dimension dropped
Variable sum_all(const Variable& x);        ///< [1]
/// y[.., t, ..] = initial + x[.., 0, ..] + ... + x[.., t, ..] along `dim`; `initial` (x without that
/// dimension) may be undefined.
Variable cumulative_sum(const Variable& x, int dim, const Variable& initial = {});

/// softmax(scale * x) over the last dimension. `valid` (i32, one a row; may be undefined) gives how
/// many leading columns take part: the others get 0, and a row with none is all zeros.
Variable softmax(const Variable& x, double scale = 1, const Tensor& valid = {});

}  // namespace reverie
