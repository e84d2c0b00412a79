#pragma once
/// Products by weights that stay as a file has them, widened a panel of rows at a time.

#include "kernels/matmul.h"

namespace reverie::cuda {

/// Whether wide_operand(b) takes no more than a panel does.
bool fits_in_a_panel(const Tensor& b);

/// Such a product: each panel is widened to the number type of a, in working memory, and
/// multiplied. False, and nothing done, where b is not read_as_stored().
bool multiply_by_panels(const Matmul&);

}  // namespace reverie::cuda
