// How fast this machine reads memory: the bound of decoding, which reads all weights for each
// token.
//
//   bench_memory [--bytes N] [--seconds S]
//
// Sums N bytes (512 MiB unless said), which no cache holds, in one run for each thread. Threads as
// OMP_NUM_THREADS says. Prints one JSON object: the median's "read_gb_per_second".

#include <fmt/format.h>
#include <omp.h>

#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/storage.h"
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

double number(const std::string& name, const std::string& text, double least, double most) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  require(!text.empty() && *end == '\0' && value >= least && value <= most,
          "{} is '{}'; wanted a number of at least {}, at most {}", name, text, least, most);
  return value;
}

void run(int count, char** arguments) {
  int64_t bytes = int64_t(512) << 20;
  double seconds = 0.3;
  for (int i = 1; i < count; i += 2) {
    const std::string name = arguments[i];
    require(name == "--bytes" || name == "--seconds", "got {}; wanted --bytes or --seconds", name);
    require(i + 1 < count, "{} wants a value", name);
    if (name == "--bytes")
      bytes = int64_t(number(name, arguments[i + 1], 4096, 1e12));
    else
      seconds = number(name, arguments[i + 1], 0.001, 60);
  }
  const int64_t words = bytes / 8;
  Storage storage(size_t(words) * 8, {});
  auto* numbers = static_cast<uint64_t*>(storage.data());
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < words; ++i) numbers[i] = 1;
  bool right = true;
  const double ms =
      median_ms(seconds, [&] { right = right && sum(numbers, words) == uint64_t(words); });
  if (!right) throw InternalError("memory did not hold what was written to it");
  const nlohmann::ordered_json out = {{"bytes", 8 * words},
                                      {"threads", omp_get_max_threads()},
                                      {"read_gb_per_second", 8e-6 * double(words) / ms}};
  fmt::print("{}\n", out.dump());
}

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  try {
    reverie::benchmark::run(count, arguments);
    return 0;
  } catch (const reverie::UserError& e) {
    fmt::print(stderr, "bench_memory: {}\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_memory: {}\n", e.what());
    return 1;
  }
}
