#pragma once
/// Weights that stay as a file has them (core/compact_weights.h), as plain data for the files under
/// isa/; see view.h.

#include "core/compact_weights.h"
#include "kernels/cpu/view.h"

namespace reverie::cpu {

struct CompactView {
  const uint8_t* bytes;  ///< null: an ordinary tensor
  CompactType type;
  int64_t row_bytes;
  int64_t rows, columns;
  bool transposed;  ///< the tensor is [columns, rows]
};
/// t of two dimensions, or its transpose, where that is whole rows.
CompactView compact_view(const Tensor& t);
/// view() without data, which would widen.
View shape_view(const Tensor& t);

}  // namespace reverie::cpu
