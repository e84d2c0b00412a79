#pragma once
/// In which order terms that lie on several ranks are added.

#include <cstdint>
#include <optional>
#include <vector>

namespace reverie {

/// Terms index << level to ((index + 1) << level) - 1, as far as there are so many, added up.
struct SumNode {
  int level = 0;
  int64_t index = 0;
  bool operator==(const SumNode&) const = default;
};

/// Floating-point addition is not associative, so a sum is the same for every number of ranks only
/// if the same pairs are added, wherever they lie. The pairs are those of a binary tree over the
/// terms' numbers: 0 + 1, 2 + 3, .., then pairs of those; a node without a right sibling is its
/// parent. A rank holds a run of terms, adds what are siblings among them, and is left with at most
/// 2 log2(terms) nodes; who has the nodes of all ranks adds the rest. So where ranks begin and end
/// decides only who does an addition, never which there are.
class SumTree {
 public:
  /// Rank r holds the terms begin[r] .. begin[r + 1] - 1; begin has one entry more than there are
  /// ranks. UserError unless every rank has a term.
  explicit SumTree(std::vector<int64_t> begin);
  /// For sums over ranks, in which order does not matter: it depends on their number anyhow.
  static SumTree one_term_per_rank(int ranks);

  /// Whether whoever adds may choose another order.
  bool any_order() const { return any_order_; }
  int64_t terms() const { return begin_.back(); }
  int ranks() const { return int(begin_.size()) - 1; }
  int64_t begin(int rank) const { return begin_[size_t(rank)]; }
  int64_t end(int rank) const { return begin_[size_t(rank) + 1]; }

  SumNode node_of(int64_t term) const { return without_sibling({0, term}); }
  /// The parent, where the two are siblings.
  std::optional<SumNode> join(const SumNode& left, const SumNode& right) const;
  /// The nodes that rank `rank` holds at the end, in the order of terms.
  std::vector<SumNode> nodes_of(int rank) const;

 private:
  SumNode without_sibling(SumNode node) const;
  std::vector<int64_t> begin_;
  bool any_order_ = false;
};

/// Appends `node`, and while it is the sibling of the last one in `nodes`, replaces both by their
/// parent: add(position) adds the value at position + 1 to the one at `position`.
template <class Add>
void append_node(const SumTree& tree, std::vector<SumNode>& nodes, const SumNode& node, Add&& add) {
  nodes.push_back(node);
  while (nodes.size() >= 2) {
    const auto parent = tree.join(nodes[nodes.size() - 2], nodes.back());
    if (!parent) return;
    nodes.pop_back();
    nodes.back() = *parent;
    add(nodes.size() - 1);
  }
}

}  // namespace reverie
