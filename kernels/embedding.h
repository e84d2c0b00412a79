#pragma once
/// Rows of a table by index, and their gradient without races.

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// y [n, C] = table[indices[n]] (+ positions[(first_position + n % period)] where `positions` [P, C]
/// is defined). indices: i32 [n]; an index outside the table is UserError naming it.
struct EmbeddingForward {
  const Tensor& indices;
  const Tensor& table;
  const Tensor& positions;
  int64_t first_position;
  int64_t period;
  Tensor& y;
};
/// A table of positions [P, C] that holds first .. first + period - 1; C columns as in `reference`.
inline void demand_positions(const Demands& demand, std::string_view name, const Tensor& table,
                             int64_t first, int64_t period, std::string_view reference_name,
                             const Tensor& reference) {
  demand.alike(name, table, reference_name, reference);
  demand.contiguous(name, table);
  require(table.rank() == 2 && table.size(1) == columns_of(reference),
          "{}: {} is {}; wanted [.., {}] to go with {} {}", demand.kernel, name, table,
          columns_of(reference), reference_name, reference);
  require(period >= 1 && first >= 0 && first + period <= table.size(0),
          "{}: positions {}..{} are outside the table of {}; shorten the sequence or make the "
          "table (block_size) longer",
          demand.kernel, first, first + period - 1, table.size(0));
}
inline void check(const EmbeddingForward& a) {
  const Demands demand{"embedding_forward"};
  demand.rows("table", a.table);
  require(a.table.rank() == 2, "{}: table is {}; wanted [vocabulary, channels]", demand.kernel,
          a.table);
  const int64_t channels = a.table.size(1);
  demand.integers("indices", a.indices, a.indices.numel(), a.table);
  demand.within("indices", a.indices, 0, a.table.size(0));
  demand.buffer("y", a.y, a.indices.numel() * channels, "table", a.table);
  if (a.positions.defined())
    demand_positions(demand, "positions", a.positions, a.first_position, a.period, "table",
                     a.table);
}
inline profile::Work work(const EmbeddingForward& a) {
  return touched(a.indices, a.table, a.positions, a.y);
}
namespace kernel {
inline constinit Kernel<EmbeddingForward> embedding_forward{"embedding_forward"};
}
/// grad_table [V, C] += rows of grad_y [n, C] (the same index summed in order of n, whatever the
/// number of threads); grad_positions [P, C] += likewise. Either may be undefined.
struct EmbeddingBackward {
  const Tensor& indices;
  const Tensor& grad_y;
  int64_t first_position;
  int64_t period;
  Tensor& grad_table;
  Tensor& grad_positions;
};
inline void check(const EmbeddingBackward& a) {
  const Demands demand{"embedding_backward"};
  demand.rows("grad_y", a.grad_y);
  const int64_t channels = columns_of(a.grad_y);
  demand.integers("indices", a.indices, count_rows(a.grad_y), a.grad_y);
  if (a.grad_table.defined()) {
    demand.alike("grad_table", a.grad_table, "grad_y", a.grad_y);
    demand.contiguous("grad_table", a.grad_table);
    require(a.grad_table.rank() == 2 && a.grad_table.size(1) == channels,
            "{}: grad_table is {}; wanted [.., {}]", demand.kernel, a.grad_table, channels);
    demand.within("indices", a.indices, 0, a.grad_table.size(0));
  }
  if (a.grad_positions.defined())
    demand_positions(demand, "grad_positions", a.grad_positions, a.first_position, a.period,
                     "grad_y", a.grad_y);
}
inline profile::Work work(const EmbeddingBackward& a) {
  return touched(a.indices, a.grad_y, a.grad_table, a.grad_positions);
}
namespace kernel {
inline constinit Kernel<EmbeddingBackward> embedding_backward{"embedding_backward"};
}

}  // namespace reverie
