#include "trainers/distributed/sum_tree.h"

#include <numeric>

#include "core/error.h"

namespace reverie {

SumTree::SumTree(std::vector<int64_t> begin) : begin_(std::move(begin)) {
  require(begin_.size() >= 2 && begin_.front() == 0, "a sum over {} ranks that begins at term {}",
          int64_t(begin_.size()) - 1, begin_.empty() ? -1 : begin_.front());
  for (int r = 0; r < ranks(); ++r)
    require(this->begin(r) < end(r), "rank {} of {} has no term of a sum of {}", r, ranks(),
            terms());
}

SumTree SumTree::one_term_per_rank(int ranks) {
  std::vector<int64_t> begin(size_t(ranks) + 1);
  std::iota(begin.begin(), begin.end(), int64_t(0));
  SumTree tree(std::move(begin));
  tree.any_order_ = true;
  return tree;
}

SumNode SumTree::without_sibling(SumNode node) const {
  // The root covers all terms and has no sibling either.
  while (node.index % 2 == 0 && (node.index + 1) << node.level >= terms() &&
         (int64_t(1) << node.level) < terms())
    node = {node.level + 1, node.index / 2};
  return node;
}

std::optional<SumNode> SumTree::join(const SumNode& left, const SumNode& right) const {
  if (left.level != right.level || left.index % 2 != 0 || right.index != left.index + 1) return {};
  return without_sibling({left.level + 1, left.index / 2});
}

std::vector<SumNode> SumTree::nodes_of(int rank) const {
  std::vector<SumNode> nodes;
  for (int64_t term = begin(rank); term < end(rank); ++term)
    append_node(*this, nodes, node_of(term), [](size_t) {});
  return nodes;
}

}  // namespace reverie
