// exp, exp2, tanh and the normal cdf in f32 against the standard library in double, on every 997th
// of all floats.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "kernels/fmath.h"

namespace reverie {
namespace {

// Distance of `actual` from the true value in units of the last place of a float near it; denormals
// count in their fixed unit.
double units_off(double truth, float actual) {
  const double size = std::max(std::abs(truth), 0x1p-126);
  return std::abs(double(actual) - truth) / std::ldexp(1.0, std::ilogb(size) - 23);
}

struct Worst {
  double units = 0;
  float x = 0;
};
// Over every `stride`th float with low <= x <= high, both signs as they come.
Worst worst(const std::function<float(float)>& f, const std::function<double(double)>& truth,
            float low, float high, uint32_t stride) {
  Worst w;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += stride) {
    const float x = std::bit_cast<float>(uint32_t(bits));
    if (!(x >= low && x <= high)) continue;
    const double units = units_off(truth(x), f(x));
    if (!(units <= w.units)) w = {units, x};
  }
  return w;
}

constexpr uint32_t kStride = 997;

TEST(Fmath, ExpIsWithinTwoUnits) {
  const Worst w = worst([](float x) { return fmath::exp(x); }, [](double x) { return std::exp(x); },
                        -104, 88.72f, kStride);
  EXPECT_LT(w.units, 2) << "at " << w.x;
  RecordProperty("exp_units", fmt::format("{:.3f}", w.units));
  EXPECT_GT(w.units, 0.5)
      << "a float cannot be nearer than half a unit everywhere: the walk saw nothing";
}
TEST(Fmath, FallingExpIsExpDownToTheLeastNormalNumber) {
  const Worst w = worst([](float x) { return fmath::exp_falling(x); },
                        [](double x) { return std::exp(x); }, -87, 1, kStride);
  EXPECT_LT(w.units, 2) << "at " << w.x;
  EXPECT_GT(w.units, 0.5);
  for (float x : {-87.01f, -1e3f, -3e38f, -INFINITY}) EXPECT_EQ(fmath::exp_falling(x), 0) << x;
  EXPECT_TRUE(std::isnan(fmath::exp_falling(NAN)));
}
TEST(Fmath, FallingExp2IsExp2DownToTheLeastNormalNumber) {
  const Worst w = worst([](float x) { return fmath::exp2_falling(x); },
                        [](double x) { return std::exp2(x); }, -126, 1, kStride);
  EXPECT_LT(w.units, 2) << "at " << w.x;
  EXPECT_GT(w.units, 0.5);
  for (float x : {-126.01f, -1e3f, -3e38f, -INFINITY}) EXPECT_EQ(fmath::exp2_falling(x), 0) << x;
  EXPECT_EQ(fmath::exp2_falling(0.0f), 1);
  EXPECT_TRUE(std::isnan(fmath::exp2_falling(NAN)));
}
TEST(Fmath, TanhIsWithinTwoUnits) {
  const Worst w = worst([](float x) { return fmath::tanh(x); },
                        [](double x) { return std::tanh(x); }, -1e30f, 1e30f, kStride);
  EXPECT_LT(w.units, 2) << "at " << w.x;
  RecordProperty("tanh_units", fmt::format("{:.3f}", w.units));
}
// An absolute bound: x Phi(x) and its derivative are sums in which the far tail drowns.
TEST(Fmath, NormalCdfIsWithinItsBound) {
  const auto truth = [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); };
  double worst_error = 0, worst_x = 0;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += kStride) {
    const float x = std::bit_cast<float>(uint32_t(bits));
    if (!(std::abs(x) < 1e30f)) continue;
    const double error = std::abs(double(fmath::normal(x).cdf) - truth(x));
    if (!(error <= worst_error)) worst_error = error, worst_x = x;
  }
  EXPECT_LT(worst_error, 0x1p-22) << "at " << worst_x;
  EXPECT_GT(worst_error, 0x1p-26)
      << "a float cannot be nearer than half a unit everywhere: the walk saw nothing";
  RecordProperty("normal_cdf_error", fmt::format("{:.3g}", worst_error));
}

TEST(Fmath, EndsOfTheRange) {
  const float infinity = INFINITY, largest = 3.40282347e38f;
  EXPECT_EQ(fmath::exp(infinity), infinity);
  EXPECT_EQ(fmath::exp(largest), infinity);
  EXPECT_EQ(fmath::exp(88.8f), infinity);
  EXPECT_LT(fmath::exp(88.7f), infinity);
  EXPECT_EQ(fmath::exp(-infinity), 0.0f);
  EXPECT_EQ(fmath::exp(-104.5f), 0.0f);
  EXPECT_GT(fmath::exp(-103.0f), 0.0f) << "a denormal result";
  EXPECT_EQ(fmath::exp(0.0f), 1.0f);
  EXPECT_EQ(fmath::exp(-0.0f), 1.0f);
  EXPECT_EQ(fmath::exp(1e-45f), 1.0f);
  EXPECT_TRUE(std::isnan(fmath::exp(NAN)));
  EXPECT_EQ(fmath::tanh(infinity), 1.0f);
  EXPECT_EQ(fmath::tanh(-infinity), -1.0f);
  EXPECT_EQ(fmath::tanh(largest), 1.0f);
  EXPECT_EQ(fmath::tanh(0.0f), 0.0f);
  EXPECT_TRUE(std::signbit(fmath::tanh(-0.0f)));
  EXPECT_EQ(fmath::tanh(1e-45f), 1e-45f);
  EXPECT_TRUE(std::isnan(fmath::tanh(NAN)));
  EXPECT_EQ(fmath::normal(infinity).cdf, 1.0f);
  EXPECT_EQ(fmath::normal(-infinity).cdf, 0.0f);
  EXPECT_EQ(fmath::normal(largest).cdf, 1.0f);
  EXPECT_EQ(fmath::normal(0.0f).cdf, 0.5f);
  EXPECT_EQ(fmath::normal(0.0f).exponential, 1.0f);
  EXPECT_TRUE(std::isnan(fmath::normal(NAN).cdf));
}

// The measure itself must see an error of a few units.
TEST(Fmath, MeasureRejectsAWorseFunction) {
  const auto worse = [](float x) { return float(std::exp(double(x)) * (1 + 4e-7)); };
  EXPECT_GT(worst(
                worse, [](double x) { return std::exp(x); }, -80, 80, 100003)
                .units,
            3);
  EXPECT_GT(units_off(1.0, 1.0000004f), 2);
  EXPECT_EQ(units_off(1.0, 1.0f), 0);
}

}  // namespace
}  // namespace reverie
