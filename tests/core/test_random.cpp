// Philox against its published vectors, and the distributions drawn from it.

#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/error.h"

namespace reverie {
namespace {

// The vector that Random123 publishes for philox4x32-10 with counter and key zero.
TEST(Philox, KnownAnswer) {
  const Philox4 r = philox(0, 0);
  EXPECT_EQ(r.v[0], 0x6627e8d5u);
  EXPECT_EQ(r.v[1], 0xe169c58du);
  EXPECT_EQ(r.v[2], 0xbc57ac4cu);
  EXPECT_EQ(r.v[3], 0x9b00dbd8u);
}

TEST(Philox, EveryBitOfSeedAndCounterMatters) {
  const auto different_bits = [](const Philox4& a, const Philox4& b) {
    int n = 0;
    for (int i = 0; i < 4; ++i) n += std::popcount(a.v[i] ^ b.v[i]);
    return n;
  };
  const uint64_t seed = 0x0123456789abcdefu, counter = 0xfedcba9876543210u;
  for (int bit = 0; bit < 64; ++bit) {
    // About 64 of the 128 bits change; 30 is six standard deviations away.
    EXPECT_GT(different_bits(philox(seed, counter), philox(seed ^ uint64_t(1) << bit, counter)), 30)
        << bit;
    EXPECT_GT(different_bits(philox(seed, counter), philox(seed, counter ^ uint64_t(1) << bit)), 30)
        << bit;
  }
}

TEST(Philox, UniformFromBitsStaysBelowOne) {
  EXPECT_EQ(uniform_from_bits(0), 0.0f);
  EXPECT_EQ(uniform_from_bits(0xffffffffu), 1.0f - 0x1p-24f);
  EXPECT_EQ(uniform_from_bits(0x80000000u), 0.5f);
}

TEST(Generator, ReplaysFromItsPlace) {
  Generator a(7);
  for (int i = 0; i < 10; ++i) a.next_u32();
  Generator b(7, a.offset());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(a.next_u32(), b.next_u32());
  EXPECT_NE(Generator(7).next_u32(), Generator(8).next_u32());
}

TEST(Generator, ReservesWholeBlocksOfFour) {
  Generator g(1, 10);
  EXPECT_EQ(g.reserve(1), 10u);
  EXPECT_EQ(g.offset(), 11u);
  EXPECT_EQ(g.reserve(8), 11u);
  EXPECT_EQ(g.offset(), 13u);
  EXPECT_EQ(g.reserve(0), 13u);
  EXPECT_EQ(g.offset(), 13u);
  EXPECT_EQ(g.reserve(9), 13u);
  EXPECT_EQ(g.offset(), 16u);
}

TEST(Generator, UniformHasItsMoments) {
  Generator g(3);
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = g.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Five standard errors of the mean (0.2887 / sqrt n) and of the second moment (0.2981 / sqrt n).
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * 0.2887 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * 0.2981 / std::sqrt(kDraws));
  const Tensor t = g.uniform({1000}, -2, 3, DType::f32);
  for (const double v : t.to_vector()) {
    EXPECT_GE(v, -2);
    EXPECT_LE(v, 3);
  }
}

TEST(Generator, NormalHasItsMoments) {
  Generator g(4);
  constexpr int64_t kDraws = 200001;  // odd: the last pair is half used
  const std::vector<double> x = g.normal({kDraws}, 1.5, 2.0, DType::f64).to_vector();
  double moments[5] = {};
  for (const double v : x) {
    ASSERT_TRUE(std::isfinite(v));
    const double z = (v - 1.5) / 2.0;
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(z, k) / kDraws;
  }
  // Five standard errors: the variances of z, z^2, z^3, z^4 are 1, 2, 15, 96.
  const double unit = 5 / std::sqrt(double(kDraws));
  EXPECT_NEAR(moments[1], 0, unit);
  EXPECT_NEAR(moments[2], 1, unit * std::sqrt(2.0));
  EXPECT_NEAR(moments[3], 0, unit * std::sqrt(15.0));
  EXPECT_NEAR(moments[4], 3, unit * std::sqrt(96.0));
  EXPECT_EQ(Generator(4).normal({3}, 0, 1, DType::f32).dtype(), DType::f32);
  EXPECT_TRUE(bit_identical(Generator(4).normal({9}, 0, 1, DType::f32),
                            Generator(4).normal({9}, 0, 1, DType::f32)));
}

TEST(Generator, BelowIsUniform) {
  Generator g(5);
  constexpr int kDraws = 70000, kValues = 7;
  double counts[kValues] = {};
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t v = g.below(kValues);
    ASSERT_LT(v, uint64_t(kValues));
    counts[v] += 1;
  }
  double chi_squared = 0;
  for (const double c : counts)
    chi_squared += (c - kDraws / kValues) * (c - kDraws / kValues) / (kDraws / kValues);
  EXPECT_LT(chi_squared, 27.9);  // six degrees of freedom: exceeded once in ten thousand seeds
  for (int i = 0; i < 100; ++i) EXPECT_EQ(g.below(1), 0u);
  // Without rejection, numbers below 2^62 would be twice as frequent as the others here.
  constexpr uint64_t kLarge = 3 * (uint64_t(1) << 62);
  int low = 0;
  for (int i = 0; i < 3000; ++i) {
    const uint64_t v = g.below(kLarge);
    ASSERT_LT(v, kLarge);
    low += v < (uint64_t(1) << 62);
  }
  EXPECT_NEAR(low, 1000, 5 * std::sqrt(3000 * 2.0 / 9));
  EXPECT_THROW(g.below(0), UserError);
}

TEST(DeriveSeed, StreamsAndSeedsAreIndependent) {
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 50; ++seed)
    for (uint64_t stream = 0; stream < 50; ++stream) seeds.insert(derive_seed(seed, stream));
  EXPECT_EQ(seeds.size(), 2500u);
  EXPECT_EQ(derive_seed(1, 2), derive_seed(1, 2));
  // A derived stream is uncorrelated with its parent and its sibling.
  Generator parent(1), first(derive_seed(1, 0)), second(derive_seed(1, 1));
  constexpr int kDraws = 50000;
  double with_parent = 0, between = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double p = parent.uniform() - 0.5, a = first.uniform() - 0.5, b = second.uniform() - 0.5;
    with_parent += p * a;
    between += a * b;
  }
  // The product of two independent uniforms has standard deviation 1/12.
  EXPECT_NEAR(with_parent / kDraws, 0, 5.0 / 12 / std::sqrt(kDraws));
  EXPECT_NEAR(between / kDraws, 0, 5.0 / 12 / std::sqrt(kDraws));
}

TEST(DefaultGenerator, IsOnePerThread) {
  default_generator() = Generator(9);
  const uint64_t before = default_generator().offset();
  default_generator().next_u32();
  EXPECT_EQ(default_generator().offset(), before + 1);
}

TEST(Generator, ARowDrawsTheSameHoweverTheBatchIsSplit) {
  constexpr uint64_t kRows = 6, kEach = 8;
  const uint64_t whole = Generator(1, 100, {0, kRows, kRows}).reserve(kRows * kEach);
  for (uint64_t count : {1, 2, 3})
    for (uint64_t first = 0; first < kRows; first += count) {
      Generator part(1, 100, {first, count, kRows});
      EXPECT_EQ(part.reserve(count * kEach), whole + first * kEach / 4);
      Generator all(1, 100);
      all.reserve(kRows * kEach);
      EXPECT_EQ(part.offset(), all.offset());
    }
  // Rows of five numbers do not begin at blocks, but never share one.
  Generator a(1, 0, {0, 2, 4}), b(1, 0, {2, 2, 4});
  EXPECT_LE(a.reserve(10) + 3, b.reserve(10));
  EXPECT_EQ(a.offset(), b.offset());
}

}  // namespace
}  // namespace reverie
