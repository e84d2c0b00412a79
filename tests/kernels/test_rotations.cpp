// The cosines and sines that rope keeps between calls (kernels/cpu/rotations.h).

#include "kernels/cpu/rotations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace reverie::cpu {
namespace {

std::vector<double> frequencies(double base, int64_t half) {
  std::vector<double> found;
  for (int64_t d = 0; d < half; ++d) found.push_back(std::pow(base, -double(d) / double(half)));
  return found;
}

// Nothing but the numbers of one table, computed here.
template <class T>
void expect_rotations(const std::vector<double>& frequency, int64_t least, int64_t end) {
  const auto half = int64_t(frequency.size());
  const T* table = rotations<T>(frequency.data(), half, least, end);
  for (int64_t position = least; position < end; ++position)
    for (int64_t d = 0; d < half; ++d) {
      const double angle = double(position) * frequency[size_t(d)];
      const T* entry = table + (position - least) * 2 * half;
      ASSERT_EQ(entry[d], T(std::cos(angle))) << "position " << position << ", pair " << d;
      ASSERT_EQ(entry[half + d], T(std::sin(angle))) << "position " << position << ", pair " << d;
    }
}

TEST(Rotations, TablesGrowAndChange) {
  const std::vector<double> global = frequencies(1e6, 16), local = frequencies(1e4, 16),
                            shorter = frequencies(1e4, 4);
  struct Range {
    int64_t least, end;
  };
  // The same again, inside, beyond its end, before its beginning, both, beside it, far from it.
  for (const Range& r : {Range{10, 40},
                         {10, 40},
                         {20, 30},
                         {30, 700},
                         {0, 20},
                         {0, 900},
                         {900, 910},
                         {5000, 5040},
                         {4990, 5050},
                         {10, 40}}) {
    expect_rotations<float>(global, r.least, r.end);
    expect_rotations<float>(local, r.least, r.end);
    expect_rotations<double>(local, r.least, r.end);
    expect_rotations<float>(shorter, r.least, r.end);
  }
  // More tables than are kept.
  for (int round = 0; round < 2; ++round)
    for (int base = 2; base < 10; ++base)
      expect_rotations<double>(frequencies(base, 8), round, 50 + base);
}

// A table that is asked for again is not computed again: frequencies are compared by value.
TEST(Rotations, ATableIsKept) {
  const std::vector<double> once = frequencies(77, 8), again = once;
  const float* table = rotations<float>(once.data(), 8, 0, 64);
  EXPECT_EQ(rotations<float>(again.data(), 8, 0, 64), table);
  EXPECT_EQ(rotations<float>(again.data(), 8, 3, 64), table + 3 * 16);
}

}  // namespace
}  // namespace reverie::cpu
