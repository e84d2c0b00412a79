#pragma once
/// Argument checks shared by all communicators.

#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "trainers/distributed/sum_tree.h"

namespace reverie {

inline void check_ranges(int ranks, const std::vector<int64_t>& begin, int64_t elements) {
  require(int(begin.size()) == ranks + 1 && begin.front() == 0 && begin.back() == elements,
          "{} ranges over {} ranks for {} elements", int64_t(begin.size()) - 1, ranks, elements);
}

inline void check_sum(int rank, int ranks, const SumTree& tree, const std::vector<Tensor>& partials,
                      const Tensor& result) {
  const DType dtype = result.dtype();
  require(dtype == DType::f32 || dtype == DType::f64, "ranks add f32 and f64, got {}", result);
  require(tree.ranks() == ranks, "a sum over {} ranks among {}", tree.ranks(), ranks);
  require(partials.size() == tree.nodes_of(rank).size(), "{} nodes of a sum, wanted {}",
          partials.size(), tree.nodes_of(rank).size());
  for (const Tensor& t : partials)
    require(t.shape() == result.shape() && t.dtype() == dtype, "a term {} of a sum {}", t, result);
}

}  // namespace reverie
