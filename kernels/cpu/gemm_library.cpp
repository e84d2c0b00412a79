#include "kernels/cpu/gemm_library.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/parallel.h"

#if defined(REVERIE_HAVE_ONEDNN)
#include <dnnl.h>

#include <dnnl.hpp>
#include <map>
#include <tuple>
#elif defined(REVERIE_HAVE_CBLAS)
#include <cblas.h>
#include <dlfcn.h>
#endif

namespace reverie {
namespace {

#if defined(REVERIE_HAVE_ONEDNN) || defined(REVERIE_HAVE_CBLAS)
constexpr bool kHaveLibrary = true;
#else
constexpr bool kHaveLibrary = false;
#endif

GemmChoice initial_choice() {
  const char* wanted = std::getenv("REVERIE_GEMM");
  const std::string name = wanted == nullptr ? "" : wanted;
  if (name == "own") return GemmChoice::own;
  if (!name.empty() && name != "library") {
    throw ConfigError(
        fmt::format("environment variable REVERIE_GEMM is '{}'; wanted library or own", name));
  }
  if (name == "library" && !kHaveLibrary) {
    throw ConfigError(
        "REVERIE_GEMM is library, but this build has neither oneDNN nor CBLAS; unset it to use "
        "Reverie's own kernels");
  }
  return kHaveLibrary ? GemmChoice::library : GemmChoice::own;
}

constexpr int kUnknown = -1;
std::atomic<int> choice{kUnknown};

}  // namespace

GemmChoice gemm() {
  int value = choice.load(std::memory_order_relaxed);
  if (value == kUnknown) {
    value = int(initial_choice());
    choice.store(value, std::memory_order_relaxed);
  }
  return GemmChoice(value);
}

void set_gemm(GemmChoice wanted) {
  if (wanted == GemmChoice::library && !kHaveLibrary) {
    throw ConfigError("matmul: this build has neither oneDNN nor CBLAS; wanted GemmChoice::own");
  }
  choice.store(int(wanted), std::memory_order_relaxed);
}

const char* matmul_library() {
  static const std::string name = [] {
#if defined(REVERIE_HAVE_ONEDNN)
    const dnnl_version_t* v = dnnl_version();
    return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
#elif defined(REVERIE_HAVE_CBLAS)
    // openblas_get_config and openblas_get_parallel exist in OpenBLAS only, hence the search.
    using Config = char* (*)();
    using Parallel = int (*)();
    auto* config = reinterpret_cast<Config>(dlsym(RTLD_DEFAULT, "openblas_get_config"));
    auto* parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "openblas_get_parallel"));
    if (config == nullptr) return std::string("CBLAS");
    const int threading = parallel == nullptr ? 0 : parallel();  // 1: pthreads, 2: OpenMP
    return fmt::format(
        "{}{}", config(),
        threading == 1 ? " (pthread build: its threads fight OpenMP's; install the openmp build)"
                       : "");
#else
    return std::string("own tiles");
#endif
  }();
  return gemm() == GemmChoice::library ? name.c_str() : "own tiles";
}

bool has_bf16_dot_products() {
#if defined(REVERIE_HAVE_ONEDNN) && defined(__x86_64__)
  return gemm() == GemmChoice::library && active_isa() == Isa::avx512 &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

namespace cpu {

bool use_gemm_library() {
  return gemm() == GemmChoice::library;
}

#if defined(REVERIE_HAVE_ONEDNN)
namespace {

// A product's operands, shape, strides and options, and a number of threads: what a oneDNN
// primitive is made for. Making one takes longer than a small product, so each thread keeps those
// it has made.
using ProductKey = std::tuple<int, dnnl::memory::data_type, int64_t, int64_t, int64_t, int64_t,
                              int64_t, int64_t, int64_t, int64_t, float, bool>;
struct LibraryProduct {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};
LibraryProduct make_product(const dnnl::engine& engine, const ProductKey& key) {
  const auto& [threads, type, m, n, k, a_row, a_step, b_row, b_step, c_row, alpha, accumulate] =
      key;
  using Memory = dnnl::memory;
  const Memory::desc a({m, k}, type, Memory::dims{a_row, a_step}),
      b({k, n}, type, Memory::dims{b_row, b_step}),
      c({m, n}, Memory::data_type::f32, Memory::dims{c_row, 1});
  dnnl::primitive_attr attributes;
  if (alpha != 1.0f) attributes.set_output_scales(0, {alpha});
  if (accumulate) {
    dnnl::post_ops after;
    after.append_sum(1.0f);
    attributes.set_post_ops(after);
  }
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
  return {description, dnnl::matmul(description)};
}

void run_product(const ProductKey& key, const void* a, const void* b, float* c) {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  thread_local dnnl::stream stream(engine);
  thread_local std::map<ProductKey, LibraryProduct> made;
  try {
    auto found = made.find(key);
    if (found == made.end()) found = made.emplace(key, make_product(engine, key)).first;
    const LibraryProduct& product = found->second;
    const auto memory = [&](const dnnl::memory::desc& of, const void* data) {
      return dnnl::memory(of, engine, const_cast<void*>(data));
    };
    product.primitive.execute(stream,
                              {{DNNL_ARG_SRC, memory(product.description.src_desc(), a)},
                               {DNNL_ARG_WEIGHTS, memory(product.description.weights_desc(), b)},
                               {DNNL_ARG_DST, memory(product.description.dst_desc(), c)}});
    stream.wait();
  } catch (const dnnl::error& e) {
    throw InternalError(fmt::format("oneDNN's matmul failed: {} (status {}) for m {} n {} k {}",
                                    e.what(), int(e.status), std::get<2>(key), std::get<3>(key),
                                    std::get<4>(key)));
  }
}

}  // namespace
#endif

void library_sgemm([[maybe_unused]] int64_t m, [[maybe_unused]] int64_t n,
                   [[maybe_unused]] int64_t k, [[maybe_unused]] float alpha,
                   [[maybe_unused]] const float* a, [[maybe_unused]] int64_t a_row,
                   [[maybe_unused]] int64_t a_step, [[maybe_unused]] const float* b,
                   [[maybe_unused]] int64_t b_row, [[maybe_unused]] int64_t b_step,
                   [[maybe_unused]] bool accumulate, [[maybe_unused]] float* c,
                   [[maybe_unused]] int64_t c_row) {
  // A leading dimension must be at least the length of its row, also where a single row or column
  // makes it meaningless.
  const bool a_transposed = !(a_step == 1 && (a_row >= k || m == 1)),
             b_transposed = !(b_step == 1 && (b_row >= n || k == 1));
  [[maybe_unused]] const int64_t a_leading =
      a_transposed ? (k == 1 ? m : a_step) : (m == 1 ? k : a_row);
  [[maybe_unused]] const int64_t b_leading =
      b_transposed ? (n == 1 ? k : b_step) : (k == 1 ? n : b_row);
  [[maybe_unused]] const int64_t c_leading = m == 1 ? n : c_row;
#if defined(REVERIE_HAVE_ONEDNN)
  // dnnl_sgemm falls behind where b lies transposed, by a fifth if b is long and narrow (the
  // gradient of an MLP's hidden layer), by a twentieth if a is (many rows of a small model). Shapes
  // alone decide, so that a resumed run adds in the same order.
  const bool long_b = k >= 3 * n, long_a = m >= 8 * std::max(n, k);
  if (!a_transposed && b_transposed && n > 1 && (long_b || long_a) &&
      m * n * k >= int64_t(1) << 20) {
    run_product({thread_count(), dnnl::memory::data_type::f32, m, n, k, a_row, a_step, b_row,
                 b_step, c_row, alpha, accumulate},
                a, b, c);
    return;
  }
  const dnnl_status_t status =
      dnnl_sgemm(a_transposed ? 'T' : 'N', b_transposed ? 'T' : 'N', m, n, k, alpha, a, a_leading,
                 b, b_leading, accumulate ? 1.0f : 0.0f, c, c_leading);
  if (status != dnnl_success) {
    throw InternalError(
        fmt::format("dnnl_sgemm failed with status {} for m {} n {} k {} lda {} ldb {} ldc {}",
                    int(status), m, n, k, a_leading, b_leading, c_leading));
  }
#elif defined(REVERIE_HAVE_CBLAS)
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  require(m <= kMost && n <= kMost && k <= kMost && a_leading <= kMost && b_leading <= kMost &&
              c_leading <= kMost,
          "matmul: CBLAS counts in 32 bits; got m {} n {} k {}; set REVERIE_GEMM=own", m, n, k);
  cblas_sgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans,
              b_transposed ? CblasTrans : CblasNoTrans, int(m), int(n), int(k), alpha, a,
              int(a_leading), b, int(b_leading), accumulate ? 1.0f : 0.0f, c, int(c_leading));
#else
  throw InternalError("library_sgemm is called in a build without a library");
#endif
}

void library_bf16gemm([[maybe_unused]] int64_t m, [[maybe_unused]] int64_t n,
                      [[maybe_unused]] int64_t k, [[maybe_unused]] float alpha,
                      [[maybe_unused]] const uint16_t* a, [[maybe_unused]] int64_t a_row,
                      [[maybe_unused]] int64_t a_step, [[maybe_unused]] const uint16_t* b,
                      [[maybe_unused]] int64_t b_row, [[maybe_unused]] int64_t b_step,
                      [[maybe_unused]] bool accumulate, [[maybe_unused]] float* c,
                      [[maybe_unused]] int64_t c_row) {
#if defined(REVERIE_HAVE_ONEDNN)
  run_product({thread_count(), dnnl::memory::data_type::bf16, m, n, k, a_row, a_step, b_row, b_step,
               c_row, alpha, accumulate},
              a, b, c);
#else
  throw InternalError("library_bf16gemm is called in a build without oneDNN");
#endif
}

namespace {

// Multiplications, 0 where the library does not take the product as one.
int64_t library_size(const Matmul& p) {
  if (!use_gemm_library() || p.c.dtype() != DType::f32 || p.c.rank() != 2) return 0;
  const int64_t m = p.c.size(0), n = p.c.size(1), k = p.a.size(1);
  return std::min({m, n, k}) > kSkinnyRows ? m * n * k : 0;
}

}  // namespace

void run_pair(void (*run)(const Matmul&), const MatmulPair& pair) {
  constexpr int64_t kLarge = int64_t(1) << 18;
  const int64_t size = library_size(pair.first);
  if (thread_count() != 2 || size < kLarge || size != library_size(pair.second)) {
    run(pair.first);
    run(pair.second);
    return;
  }
  std::exception_ptr failures[2];
  share_out(2, true, [&](int64_t i) {
    // For this thread until the end of the loop: oneDNN plans for as many threads as this says,
    // also where it may not have them.
    omp_set_num_threads(1);
    try {
      run(i == 0 ? pair.first : pair.second);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace cpu
}  // namespace reverie
