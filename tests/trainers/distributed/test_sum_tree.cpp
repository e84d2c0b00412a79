#include "trainers/distributed/sum_tree.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/error.h"
#include "trainers/distributed/ranks.h"

namespace reverie {
namespace {

std::vector<int64_t> even_ranges(int64_t terms, int ranks) {
  std::vector<int64_t> begin;
  for (int64_t r = 0; r <= ranks; ++r) begin.push_back(r * terms / ranks);
  return begin;
}

// The sum in the order of pairs, written as a recursion over aligned halves.
double reference(const std::vector<double>& x, size_t begin, size_t width) {
  if (width == 1) return x[begin];
  const double left = reference(x, begin, width / 2);
  return begin + width / 2 < x.size() ? left + reference(x, begin + width / 2, width / 2) : left;
}
double reference(const std::vector<double>& x) {
  size_t width = 1;
  while (width < x.size()) width *= 2;
  return reference(x, 0, width);
}

std::vector<double> numbers(int64_t count) {
  std::mt19937_64 random(uint64_t(count) + 1);
  std::vector<double> x;
  for (int64_t i = 0; i < count; ++i)
    x.push_back(std::ldexp(double(random() % 2001) / 1000 - 1, int(random() % 40)));
  return x;
}

TEST(SumTree, AddsTheSamePairsForEveryNumberOfRanks) {
  for (int64_t terms = 1; terms <= 17; ++terms) {
    const auto x = numbers(terms);
    for (int ranks = 1; ranks <= terms; ++ranks) {
      const SumTree tree(even_ranges(terms, ranks));
      std::vector<SumNode> nodes;
      std::vector<double> values;
      for (int r = 0; r < ranks; ++r) {
        std::vector<SumNode> own;
        std::vector<double> sums;
        for (int64_t t = tree.begin(r); t < tree.end(r); ++t) {
          sums.push_back(x[size_t(t)]);
          append_node(tree, own, tree.node_of(t), [&](size_t at) {
            sums[at] += sums[at + 1];
            sums.pop_back();
          });
        }
        ASSERT_EQ(own, tree.nodes_of(r));
        ASSERT_EQ(own.size(), sums.size());
        EXPECT_LE(double(own.size()), 2 * std::log2(double(terms)) + 1);
        for (size_t i = 0; i < own.size(); ++i) {
          values.push_back(sums[i]);
          append_node(tree, nodes, own[i], [&](size_t at) {
            values[at] += values[at + 1];
            values.pop_back();
          });
        }
      }
      ASSERT_EQ(values.size(), 1u) << terms << " terms, " << ranks << " ranks";
      EXPECT_EQ(values[0], reference(x)) << terms << " terms, " << ranks << " ranks";
    }
  }
}

TEST(SumTree, TheOrderMattersForTheseNumbers) {
  const auto x = numbers(16);
  double in_sequence = 0;
  for (double v : x) in_sequence += v;
  EXPECT_NE(in_sequence, reference(x));
}

TEST(SumTree, ARankWithoutTermsIsRefused) {
  EXPECT_THROW(SumTree({0, 2, 2, 3}), UserError);
  EXPECT_THROW(SumTree({}), UserError);
}

}  // namespace
}  // namespace reverie
