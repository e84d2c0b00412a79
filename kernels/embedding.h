#pragma once
// Rows of a table by index, and their gradient without races.

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// y [n, C] = table[indices[n]] (+ positions[(first_position + n % period)] where `positions` [P, C]
// is defined). indices: i32 [n]; an index outside the table is UserError naming it.
struct EmbeddingForward {
  const Tensor& indices;
  const Tensor& table;
  const Tensor& positions;
  int64_t first_position;
  int64_t period;
  Tensor& y;
};
void check(const EmbeddingForward&);
profile::Work work(const EmbeddingForward&);
namespace kernel {
inline constinit Kernel<EmbeddingForward> embedding_forward{"embedding_forward"};
}
// grad_table [V, C] += rows of grad_y [n, C] (the same index summed in order of n, whatever the
// number of threads); grad_positions [P, C] += likewise. Either may be undefined.
struct EmbeddingBackward {
  const Tensor& indices;
  const Tensor& grad_y;
  int64_t first_position;
  int64_t period;
  Tensor& grad_table;
  Tensor& grad_positions;
};
void check(const EmbeddingBackward&);
profile::Work work(const EmbeddingBackward&);
namespace kernel {
inline constinit Kernel<EmbeddingBackward> embedding_backward{"embedding_backward"};
}

}  // namespace reverie
