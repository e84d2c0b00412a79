// The speed of matrix products alone: what a training step could reach if it were nothing else.
//
//   bench_step_gemms [--precision f32|bf16] [--seconds S] nn:768x384x128 ... [triad:268435456]
//
// A product LAYOUT:MxNxK is C [M, N] = A B of inner length K. Layout nn: A [M, K] and B [K, N] as
// they lie; nt: B lies transposed, [N, K]; tn: A lies transposed, [K, M]. Each is timed in every
// way below, alone and again and again, so that its operands are as warm as they can be; "ms" is
// the best way's median. "triad:BYTES" measures memory: a = b + 3 c over three arrays of BYTES
// in all, in GB/s (with non-temporal stores where the machine has them).
//
// Ways: dnnl_sgemm (f32); oneDNN's matmul with operands as they lie; with B in the layout that
// oneDNN likes best (as weights packed once a step); in bf16 with A, too (it must be written anew
// in any case, when it is rounded). In bf16, A and B are bf16, sums are f32, and C is f32 or, but
// for tn (gradients of weights, which are kept in f32), bf16.
// Threads as OMP_NUM_THREADS says. Prints one JSON object.

#include <fmt/format.h>
#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <string>
#include <unordered_map>
#include <vector>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/error.h"
#include "core/storage.h"
#include "tests/benchmarks/program.h"
#include "tests/benchmarks/timing.h"

namespace reverie::benchmark {
namespace {

using dnnl::memory;

struct Product {
  std::string text;
  bool a_transposed = false, b_transposed = false;
  int64_t m = 0, n = 0, k = 0;
};

Product parse_product(const std::string& text) {
  Product p;
  p.text = text;
  char layout[3] = {};
  int used = 0;
  const bool read =
      std::sscanf(text.c_str(), "%2[nt]:%ldx%ldx%ld%n", layout, &p.m, &p.n, &p.k, &used) == 4 &&
      size_t(used) == text.size();
  const std::string name = layout;
  require(read && (name == "nn" || name == "nt" || name == "tn") && p.m > 0 && p.n > 0 && p.k > 0,
          "got the product '{}'; wanted LAYOUT:MxNxK with LAYOUT nn, nt or tn, e.g. nn:768x384x128",
          text);
  p.a_transposed = name[0] == 't';
  p.b_transposed = name[1] == 't';
  return p;
}

// Memory of a oneDNN layout, on huge pages, filled with numbers of size about 1.
class Operand {
 public:
  Operand(const memory::desc& layout, const dnnl::engine& engine)
      : storage_(layout.get_size(), Device{}), memory_(layout, engine, storage_.data()) {
    // 0x3f80 is 1 in bf16; as halves of an f32 it gives 1.00..; the low bits vary both.
    auto* halves = static_cast<uint16_t*>(storage_.data());
    const size_t count = storage_.bytes() / sizeof(uint16_t);
    uint32_t state = 12345;
    for (size_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      halves[i] = uint16_t(0x3f80u | ((state >> 16) & 0x803fu));
    }
  }
  const memory& get() const { return memory_; }
  float* floats() { return static_cast<float*>(storage_.data()); }

 private:
  Storage storage_;
  memory memory_;
};

memory::desc plain(memory::data_type type, int64_t rows, int64_t columns, bool transposed) {
  return {{rows, columns}, type, transposed ? memory::dims{1, rows} : memory::dims{columns, 1}};
}
memory::desc any(memory::data_type type, int64_t rows, int64_t columns) {
  return {{rows, columns}, type, memory::format_tag::any};
}

dnnl::matmul::primitive_desc matmul_of(const dnnl::engine& engine, const memory::desc& a,
                                       const memory::desc& b, const memory::desc& c) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, a, b, c};
#else
  return {dnnl::matmul::desc(a, b, c), engine};
#endif
}

struct Way {
  std::string name;
  bool a_packed = false, b_packed = false;
  memory::data_type result = memory::data_type::f32;
};
std::vector<Way> ways_of(const Product& p, bool bf16) {
  std::vector<Way> ways = {{"matmul"}, {"packed B", false, true}};
  if (bf16) ways.push_back({"packed A and B", true, true});
  if (bf16 && !p.a_transposed)
    for (size_t i = 0; i < 3; ++i)
      ways.push_back({ways[i].name + ", bf16 result", ways[i].a_packed, ways[i].b_packed,
                      memory::data_type::bf16});
  return ways;
}

class Bench {
 public:
  Bench(bool bf16, double seconds) : bf16_(bf16), seconds_(seconds) {}

  Json product(const Product& p) {
    Json times = Json::object();
    if (!bf16_) times["dnnl_sgemm"] = sgemm_ms(p);
    std::string why;
    for (const Way& way : ways_of(p, bf16_)) {
      try {
        times[way.name] = matmul_ms(p, way);
      } catch (const dnnl::error& e) {
        why = e.what();  // oneDNN has no such kernel for this machine or shape
      }
    }
    require(!times.empty(), "oneDNN has no {} matmul on this machine: {}", bf16_ ? "bf16" : "f32",
            why);
    std::string best;
    for (const auto& [name, ms] : times.items())
      if (best.empty() || ms < times[best]) best = name;
    const double ms = times[best];
    return {{"gemm", p.text},
            {"ms", ms},
            {"gflops", 2e-6 * double(p.m) * double(p.n) * double(p.k) / ms},
            {"way", best},
            {"ways_ms", times}};
  }

 private:
  double sgemm_ms(const Product& p) {
    using enum memory::data_type;
    Operand a(plain(f32, p.m, p.k, false), engine_), b(plain(f32, p.k, p.n, false), engine_),
        c(plain(f32, p.m, p.n, false), engine_);
    return median_ms(seconds_, [&] {
      const dnnl_status_t status =
          dnnl_sgemm(p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N', p.m, p.n, p.k, 1.0f,
                     a.floats(), p.a_transposed ? p.m : p.k, b.floats(), p.b_transposed ? p.k : p.n,
                     0.0f, c.floats(), p.n);
      require(status == dnnl_success, "dnnl_sgemm failed with status {} for {}", int(status),
              p.text);
    });
  }

  double matmul_ms(const Product& p, const Way& way) {
    const auto type = bf16_ ? memory::data_type::bf16 : memory::data_type::f32;
    const auto pd = matmul_of(
        engine_, way.a_packed ? any(type, p.m, p.k) : plain(type, p.m, p.k, p.a_transposed),
        way.b_packed ? any(type, p.k, p.n) : plain(type, p.k, p.n, p.b_transposed),
        plain(way.result, p.m, p.n, false));
    const dnnl::matmul multiply(pd);
    const Operand a(pd.src_desc(), engine_), b(pd.weights_desc(), engine_),
        c(pd.dst_desc(), engine_);
    const std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, a.get()}, {DNNL_ARG_WEIGHTS, b.get()}, {DNNL_ARG_DST, c.get()}};
    return median_ms(seconds_, [&] {
      multiply.execute(stream_, arguments);
      stream_.wait();
    });
  }

  bool bf16_;
  double seconds_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
};

// a = b + 3 c, one store that no cache keeps and two loads an element.
void triad_pass(float* a, const float* b, const float* c, int64_t count) {
#if defined(__SSE2__)
  const __m128 three = _mm_set1_ps(3);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i += 4)
    _mm_stream_ps(a + i, _mm_add_ps(_mm_load_ps(b + i), _mm_mul_ps(three, _mm_load_ps(c + i))));
#else
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < count; ++i) a[i] = b[i] + 3 * c[i];
#endif
}

Json triad(const std::string& text, double seconds) {
  char* end = nullptr;
  const std::string number = text.substr(text.find(':') + 1);
  const int64_t bytes = std::strtoll(number.c_str(), &end, 10);
  require(!number.empty() && *end == '\0' && bytes >= 4096,
          "got '{}'; wanted triad:BYTES of at least 4096 bytes", text);
  const int64_t count = bytes / 3 / 64 * 16;  // whole cache lines
  Storage a(size_t(count) * 4, {}), b(size_t(count) * 4, {}), c(size_t(count) * 4, {});
  float *pa = static_cast<float*>(a.data()), *pb = static_cast<float*>(b.data()),
        *pc = static_cast<float*>(c.data());
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) pa[i] = 0, pb[i] = 1, pc[i] = 2;
  const double ms = median_ms(seconds, [&] { triad_pass(pa, pb, pc, count); });
  return {{"bytes", 12 * count}, {"gb_per_second", 12e-6 * double(count) / ms}};
}

Json measure(const std::vector<std::string>& wanted, bool bf16, double seconds) {
  const dnnl_version_t* v = dnnl_version();
  Json out = {{"library", fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch)},
              {"threads", omp_get_max_threads()},
              {"precision", bf16 ? "bf16" : "f32"}};
  Json gemms = Json::array();
  Bench bench(bf16, seconds);
  for (const std::string& what : wanted) {
    if (what.rfind("triad:", 0) == 0)
      out["triad"] = triad(what, seconds);
    else
      gemms.push_back(bench.product(parse_product(what)));
  }
  out["gemms"] = gemms;
  return out;
}

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  std::vector<std::string> wanted;
  std::string precision = "f32";
  double seconds = 0.1;
  CLI::App app("The speed of matrix products alone", "bench_step_gemms");
  app.add_option("--precision", precision, "of what is multiplied")
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--seconds", seconds, "time for each measure")->check(CLI::PositiveNumber);
  app.add_option("products", wanted, "LAYOUT:MxNxK, e.g. nn:768x384x128; or triad:BYTES")
      ->required();
  using namespace reverie::benchmark;
  return run_program(app, count, arguments,
                     [&] { return measure(wanted, precision == "bf16", seconds); });
}
