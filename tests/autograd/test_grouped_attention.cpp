// Groups over a shared context against plain attention, one group at a time.

#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "autograd/ops/attention.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

struct Groups {
  int64_t batch, count, size, context, dim;
  AttentionSpec spec;
  std::vector<int32_t> limits;  // [batch, count]
  Tensor limit_tensor() const {
    return Tensor::from<int32_t>({batch, count}, std::span<const int32_t>(limits));
  }
  std::vector<Shape> shapes() const {
    const int64_t q = spec.heads * dim, kv = spec.kv_heads * dim, rows = count * size;
    return {{batch, rows, q},
            {batch, rows, kv},
            {batch, rows, kv},
            {batch, context, kv},
            {batch, context, kv}};
  }
};

// Each group alone: plain attention of its rows over [its part of the context, its own keys].
Variable one_at_a_time(const Groups& g, const Variables& v) {
  Variables entries;
  for (int64_t b = 0; b < g.batch; ++b) {
    const auto entry = [&](size_t i) { return slice(v[i], 0, b, b + 1); };
    Variables outputs;
    for (int64_t i = 0; i < g.count; ++i) {
      const int64_t limit = g.limits[size_t(b * g.count + i)];
      const auto own = [&](size_t input) {
        return slice(entry(input), 1, i * g.size, (i + 1) * g.size);
      };
      AttentionSpec spec = g.spec;
      spec.first_position = limit;
      outputs.push_back(attention(own(0), concat({slice(entry(3), 1, 0, limit), own(1)}, 1),
                                  concat({slice(entry(4), 1, 0, limit), own(2)}, 1), spec));
    }
    entries.push_back(concat(outputs, 1));
  }
  return concat(entries, 0);
}
Variable together(const Groups& g, const Variables& v) {
  return grouped_attention(v[0], v[1], v[2], v[3], v[4], g.limit_tensor(), g.spec);
}

Groups example(double softcap, int64_t window) {
  Groups g{2, 6, 9, 80, 6, {}, {3, 80, 64, 65, 1, 20, 77, 77, 10, 1, 5, 79}};
  g.spec.heads = 4;
  g.spec.kv_heads = 2;
  g.spec.softcap = softcap;
  g.spec.window = window;
  return g;
}
Variables leaves(const Groups& g) {
  Variables v;
  for (const Shape& s : g.shapes()) v.emplace_back(normal(s, 30 + v.size()), true);
  return v;
}
void pull_back(const Variable& y, const Tensor& cotangent) {
  backward(std::span(&y, 1), std::span(&cotangent, 1));
}
double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector(), y = b.to_vector();
  EXPECT_EQ(x.size(), y.size());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::isfinite(x[i] - y[i]) ? std::abs(x[i] - y[i]) : INFINITY);
  return worst;
}

TEST(GroupedAttention, EqualsGroupsOneAtATime) {
  for (const auto& [softcap, window] : {std::pair{0.0, 0}, std::pair{1.2, 0}, std::pair{0.0, 12},
                                        std::pair{0.0, 4}, std::pair{2.0, 70}}) {
    SCOPED_TRACE(::testing::Message() << "softcap " << softcap << " window " << window);
    const Groups g = example(softcap, window);
    const Variables a = leaves(g), b = leaves(g);
    const Variable x = together(g, a), y = one_at_a_time(g, b);
    EXPECT_LE(largest_difference(x.tensor(), y.tensor()), 1e-13);
    const Tensor cotangent = normal(x.shape(), 9);
    pull_back(x, cotangent);
    pull_back(y, cotangent);
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(largest_difference(a[i].grad(), b[i].grad()), 1e-12) << "input " << i;
  }
}

TEST(GroupedAttention, TheComparisonSeesOneLimitThatIsOffByOne) {
  const Groups g = example(0, 0);
  Groups wrong = g;
  wrong.limits[4] += 1;
  const Variables v = leaves(g);
  EXPECT_GT(largest_difference(together(g, v).tensor(), one_at_a_time(wrong, v).tensor()), 1e-4);
}

// What a group must not see: later text, other groups, later rows of its own.
TEST(GroupedAttention, SeesNothingElse) {
  const Groups g = example(0, 0);
  const Variables v = leaves(g);
  const auto before = together(g, v).tensor().to_vector();
  const int64_t q = g.spec.heads * g.dim, kv = g.spec.kv_heads * g.dim;
  // Entry 0, group 3 (limit 65): context row 70, a row of group 4, and its own row 5 change.
  for (const auto& [input, row] : {std::pair{3, 70}, std::pair{4, 70}, std::pair{1, 4 * 9 + 2},
                                   std::pair{2, 4 * 9 + 2}, std::pair{1, 3 * 9 + 5}}) {
    Variables changed = v;
    Tensor t = v[size_t(input)].tensor().clone();
    for (int64_t c = 0; c < kv; ++c) t.mutable_data<double>()[row * kv + c] += 3;
    changed[size_t(input)] = Variable(t);
    const auto after = together(g, changed).tensor().to_vector();
    for (int64_t r = 3 * 9; r < 3 * 9 + 5; ++r)
      for (int64_t c = 0; c < q; ++c)
        ASSERT_EQ(before[size_t(r * q + c)], after[size_t(r * q + c)]) << input << " " << row;
    EXPECT_NE(before, after) << "somebody else sees it";
  }
}

// Rows that do not ask are seen as ever.
TEST(GroupedAttention, TheLastRowsAloneGetWhatTheyGetAmongAll) {
  constexpr int64_t kAsking = 4;
  for (const auto& [softcap, window] : {std::pair{0.0, 0}, std::pair{1.2, 7}}) {
    const Groups g = example(softcap, window);
    const Variables a = leaves(g), b = leaves(g);
    const auto last_rows = [&](const Variable& rows) {
      const int64_t width = rows.size(2);
      const Variable by_group = reshape(rows, {g.batch, g.count, g.size, width});
      return reshape(slice(by_group, 2, g.size - kAsking, g.size), {g.batch, -1, width});
    };
    const Variable x = last_rows(together(g, a)),
                   y = grouped_attention(last_rows(b[0]), b[1], b[2], b[3], b[4], g.limit_tensor(),
                                         g.spec);
    EXPECT_LE(largest_difference(x.tensor(), y.tensor()), 1e-13);
    const Tensor cotangent = normal(x.shape(), 9);
    pull_back(x, cotangent);
    pull_back(y, cotangent);
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(largest_difference(a[i].grad(), b[i].grad()), 1e-12) << "input " << i;
  }
}

TEST(GroupedAttention, AContextMayBeASliceOfALargerCache) {
  const Groups g = example(0, 0);
  const Variables v = leaves(g);
  const int64_t kv = g.spec.kv_heads;
  Tensor cache = Tensor::full({2, 2, 100, kv, g.dim}, NAN, DType::f64);
  Variables cached = v;
  for (int64_t side : {0, 1}) {
    Tensor slot = cache.select(0, side).slice(1, 0, g.context);
    slot.copy_from(v[size_t(3 + side)].tensor().view({2, g.context, kv, g.dim}));
    cached[size_t(3 + side)] = Variable(slot, true);
  }
  const Variable x = together(g, v), y = together(g, cached);
  EXPECT_TRUE(bit_identical(x.tensor(), y.tensor()));
  const Tensor cotangent = normal(x.shape(), 9);
  pull_back(x, cotangent);
  pull_back(y, cotangent);
  for (size_t i : {3, 4})
    EXPECT_EQ(v[i].grad().to_vector(), cached[i].grad().to_vector()) << "input " << i;
}

// Under a frozen base, the context gets no gradient, and the others get the same one.
TEST(GroupedAttention, AFrozenContextChangesNoOtherGradient) {
  const Groups g = example(1.5, 30);
  const Variables all = leaves(g);
  Variables frozen = leaves(g);
  for (size_t i : {3, 4}) frozen[i] = Variable(frozen[i].tensor());
  const Tensor cotangent = normal(g.shapes()[0], 9);
  pull_back(together(g, all), cotangent);
  pull_back(together(g, frozen), cotangent);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(bit_identical(all[i].grad(), frozen[i].grad())) << "input " << i;
    EXPECT_GT(largest_difference(all[i].grad(), Tensor::zeros(all[i].shape(), DType::f64)), 0);
  }
  for (size_t i : {3, 4}) EXPECT_FALSE(frozen[i].grad().defined());
}

TEST(GroupedAttention, SaysWhatWasWanted) {
  const Groups g = example(0, 0);
  const Variables v = leaves(g);
  AttentionSpec spec = g.spec;
  spec.dropout = 0.1;
  EXPECT_THROW(grouped_attention(v[0], v[1], v[2], v[3], v[4], g.limit_tensor(), spec), UserError);
  spec = g.spec;
  spec.first_position = 1;
  EXPECT_THROW(grouped_attention(v[0], v[1], v[2], v[3], v[4], g.limit_tensor(), spec), UserError);
  EXPECT_THROW(grouped_attention(v[0], v[0], v[2], v[3], v[4], g.limit_tensor(), g.spec),
               UserError);
  Groups far = g;
  far.limits[7] = 81;
  EXPECT_THROW(together(far, v), UserError);
}

}  // namespace
}  // namespace reverie::testing
