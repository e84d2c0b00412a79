#pragma once
// Time on a device whose work is asked for before it is done: CUDA's events are not seen here, so
// that a sample is many calls with one wait at the end.

#include <algorithm>
#include <cstdint>

#include "core/cuda.h"
#include "tests/benchmarks/timing.h"

namespace reverie::benchmark {

// A wait, and a launch that finds nothing queued before it, take some ten microseconds: beside this
// less than a hundredth.
inline constexpr double kSampleSeconds = 5e-3;
inline constexpr int64_t kMostCalls = 1000;

// The median time of a call in milliseconds, over samples of as many calls as last kSampleSeconds,
// for `seconds`, at least three samples. On the CPU synchronize() does nothing.
template <class Call>
double device_median_ms(double seconds, const Call& call) {
  const auto calls = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) call();
    cuda::synchronize();
  };
  calls(1);  // plans, memory, code that is loaded when it is first asked for
  const double begin = seconds_now();
  calls(1);
  const double once = std::max(1e-9, seconds_now() - begin);
  const int64_t count = std::clamp<int64_t>(int64_t(kSampleSeconds / once) + 1, 1, kMostCalls);
  return median_ms(seconds, [&] { calls(count); }) / double(count);
}

}  // namespace reverie::benchmark
