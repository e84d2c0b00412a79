#pragma once
/// Products of few rows by weights that stay as a file has them.

#include "kernels/matmul.h"

namespace reverie::cuda {

/// Such a product with up to four rows of a, where b is the transpose of compact weights [outputs,
/// columns] and columns is a multiple of 4: each weight is read once, as it is stored, and nothing
/// is widened in memory. `bias` [outputs], where it is defined, is added to each row. False, and
/// nothing done, for any other product.
bool multiply_few_rows(const Matmul&, const Tensor& bias = {});

}  // namespace reverie::cuda
