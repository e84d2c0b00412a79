// What causal attention costs a token, forward and backward, as the context grows.
//
//   bench_attention [--tokens N] [--heads H] [--head-size D] [--seconds S] T...
//
// For each context T, N / T sequences of T tokens (N: 4096 unless said), with query, key and value
// as views into one packed [B, T, 3 H D] projection, as in a model; f32. "gflop" counts what
// causality leaves of the products: 2 of them forward, 4 backward (recomputed scores are not
// counted), each 2 T (T + 1) / 2 D operations a head and sequence. "tensor_bytes" are what goes in
// and out, gradients included; "scratch_bytes" what the kernels take beside them at their peak.
// Both are linear in T where no T x T matrix is kept: constant a token. Threads as
// OMP_NUM_THREADS says. Prints one JSON object.

#include <omp.h>

#include <cmath>
#include <vector>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "tests/benchmarks/program.h"
#include "tests/benchmarks/timing.h"

namespace reverie::benchmark {
namespace {

struct Options {
  int64_t tokens = 4096, heads = 6, head_size = 64;
  double seconds = 0.3;
  std::vector<int64_t> contexts;
};

// Numbers in [-1, 1), the same every time.
Tensor numbers(const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::f32);
  float* x = t.mutable_data<float>();
  uint32_t state = 1;
  for (int64_t i = 0; i < t.numel(); ++i) {
    state = state * 1664525u + 1013904223u;
    x[i] = float(state >> 8) / float(1 << 23) - 1;
  }
  return t;
}

// The most bytes that `call` holds beside what is held already.
template <class Call>
size_t scratch_of(const Call& call) {
  Allocator& memory = allocator({});
  const size_t before = memory.stats().in_use;
  memory.reset_peak();
  call();
  return memory.stats().peak - before;
}

Json measure(const Options& o, int64_t context) {
  const int64_t batch = o.tokens / context, heads = o.heads, size = o.head_size;
  const size_t before = allocator({}).stats().in_use;
  const auto packed = [&](const Tensor& t, int64_t part) {
    return t.view({batch, context, 3 * heads, size}).slice(2, part * heads, (part + 1) * heads);
  };
  const Shape whole = {batch, context, 3 * heads * size};
  const Tensor qkv = numbers(whole), grad_qkv = numbers(whole),
               grad_output = numbers({batch, context, heads, size});
  const Tensor query = packed(qkv, 0), key = packed(qkv, 1), value = packed(qkv, 2);
  Tensor grad_query = packed(grad_qkv, 0), grad_key = packed(grad_qkv, 1),
         grad_value = packed(grad_qkv, 2);
  Tensor output = numbers({batch, context, heads, size}),
         log_sum_exp = numbers({batch, heads, context});
  const size_t tensors = allocator({}).stats().in_use - before;
  AttentionOptions options;
  options.scale = 1 / std::sqrt(double(size));
  const auto forward = [&] {
    kernel::attention_forward({}, {query, key, value, options, output, log_sum_exp});
  };
  const auto backward = [&] {
    kernel::attention_backward({}, {query, key, value, output, log_sum_exp, grad_output, options,
                                    grad_query, grad_key, grad_value});
  };
  const size_t scratch = std::max(scratch_of(forward), scratch_of(backward));
  const double forward_ms = median_ms(o.seconds, forward),
               backward_ms = median_ms(o.seconds, backward);
  const double product =
      1e-9 * double(batch * heads * size) * double(context) * double(context + 1);  // GFLOP
  return {{"context", context},
          {"batch", batch},
          {"forward_ms", forward_ms},
          {"backward_ms", backward_ms},
          {"us_per_token", (forward_ms + backward_ms) * 1e3 / double(o.tokens)},
          {"gflop", 6 * product},
          {"gflops_forward", 2e3 * product / forward_ms},
          {"gflops_backward", 4e3 * product / backward_ms},
          {"gflops", 6e3 * product / (forward_ms + backward_ms)},
          {"tensor_bytes", tensors},
          {"scratch_bytes", scratch},
          {"tensor_bytes_per_token", double(tensors) / double(o.tokens)},
          {"scratch_bytes_per_token", double(scratch) / double(o.tokens)}};
}

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  using namespace reverie;
  benchmark::Options o;
  CLI::App app("What causal attention costs a token, as the context grows", "bench_attention");
  app.add_option("--tokens", o.tokens, "tokens of a pass")->check(CLI::PositiveNumber);
  app.add_option("--heads", o.heads, "heads")->check(CLI::PositiveNumber);
  app.add_option("--head-size", o.head_size, "width of a head")->check(CLI::PositiveNumber);
  app.add_option("--seconds", o.seconds, "time for each measure")->check(CLI::PositiveNumber);
  app.add_option("contexts", o.contexts, "contexts to measure, e.g. 64 256 1024 4096")
      ->required()
      ->check(CLI::PositiveNumber);
  return benchmark::run_program(app, count, arguments, [&] {
    for (int64_t t : o.contexts)
      require(o.tokens % t == 0, "context {} does not divide the {} tokens", t, o.tokens);
    benchmark::Json contexts = benchmark::Json::array();
    for (int64_t t : o.contexts) contexts.push_back(benchmark::measure(o, t));
    return benchmark::Json{{"tokens", o.tokens},           {"heads", o.heads},
                           {"head_size", o.head_size},     {"precision", "f32"},
                           {"isa", name_of(active_isa())}, {"threads", omp_get_max_threads()},
                           {"contexts", contexts}};
  });
}
