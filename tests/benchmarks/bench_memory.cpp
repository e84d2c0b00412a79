// How fast this machine reads memory: the bound of decoding, which reads all weights for each
// token.
//
//   bench_memory [--bytes N] [--seconds S]
//
// Sums N bytes (512 MiB unless said), which no cache holds, in one run for each thread. Threads as
// OMP_NUM_THREADS says. Prints one JSON object: the median's "read_gb_per_second".

#include <omp.h>

#include "core/storage.h"
#include "tests/benchmarks/program.h"
#include "tests/benchmarks/timing.h"

namespace reverie::benchmark {
namespace {

// Integers: additions of them may be put in any order, so that the compiler makes them vectors.
uint64_t sum(const uint64_t* numbers, int64_t count) {
  uint64_t total = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) total += numbers[i];
  return total;
}

Json measure(int64_t bytes, double seconds) {
  const int64_t words = bytes / 8;
  Storage storage(size_t(words) * 8, {});
  auto* numbers = static_cast<uint64_t*>(storage.data());
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < words; ++i) numbers[i] = 1;
  bool right = true;
  const double ms =
      median_ms(seconds, [&] { right = right && sum(numbers, words) == uint64_t(words); });
  if (!right) throw InternalError("memory did not hold what was written to it");
  return {{"bytes", 8 * words},
          {"threads", omp_get_max_threads()},
          {"read_gb_per_second", 8e-6 * double(words) / ms}};
}

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  int64_t bytes = int64_t(512) << 20;
  double seconds = 0.3;
  CLI::App app("How fast this machine reads memory", "bench_memory");
  app.add_option("--bytes", bytes, "bytes to read, more than the caches hold")
      ->check(CLI::Range(int64_t(4096), int64_t(1) << 40));
  app.add_option("--seconds", seconds, "time to measure for")->check(CLI::PositiveNumber);
  using namespace reverie::benchmark;
  return run_program(app, count, arguments, [&] { return measure(bytes, seconds); });
}
