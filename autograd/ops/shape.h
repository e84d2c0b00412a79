#pragma once
/// Layout ops. reshape is free; the others copy only where the result would not be contiguous.

#include "autograd/op.h"

namespace reverie {

Variable reshape(const Variable& x, const Shape& shape);  ///< one size may be -1
Variable transpose(const Variable& x, int dim_a, int dim_b);
Variable slice(const Variable& x, int dim, int64_t begin,
               int64_t end);  ///< half-open, dimension kept
Variable concat(const std::vector<Variable>& parts, int dim);
/// Repeats x along a dimension of size 1.
Variable expand(const Variable& x, int dim, int64_t times);

}  // namespace reverie
