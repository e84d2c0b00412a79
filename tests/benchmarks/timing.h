#pragma once
// How the benchmarks take time, so that all figures of a table mean the same.

#include <algorithm>
#include <chrono>
#include <vector>

namespace reverie::benchmark {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The median of the times of single calls, in milliseconds: two calls to warm up, then calls for
// `seconds`, at least three.
template <class Call>
double median_ms(double seconds, const Call& call) {
  call();
  call();
  std::vector<double> times;
  const double end = seconds_now() + seconds;
  for (double begin = seconds_now(); begin < end || times.size() < 3;) {
    call();
    const double now = seconds_now();
    times.push_back((now - begin) * 1e3);
    begin = now;
  }
  const size_t middle = times.size() / 2;
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(middle), times.end());
  const double upper = times[middle];
  if (times.size() % 2 == 1) return upper;
  return (upper + *std::max_element(times.begin(), times.begin() + std::ptrdiff_t(middle))) / 2;
}

}  // namespace reverie::benchmark
