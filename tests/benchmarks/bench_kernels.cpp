// How near the kernels come to what their device can do.
//
//   bench_kernels [--device cpu|cuda] [--seconds S] [--tiny]
//
// "ceilings": the rate at which memory is copied (bytes read and written) and that of a large
// matrix product with f32 and with bf16 operands, by the library that all products go to.
// "memory": kernels that memory bounds, at the sizes of a GPT-2 of 124 million parameters;
// "bytes" is what must be moved at the least: each argument once, twice where it is read and
// written in its place, of an embedding's table the rows that are asked for, of weights that stay
// as a file has them what they take there. "products": those of a training step at their own
// layouts. "attention": causal, in f32 and with operands of products in bf16; "flops" as work()
// counts, of the pairs that causality leaves: two products forward, five backward (the scores are
// computed once more).
//
// Every figure is the median over samples of many calls (device_timing.h), each of at least
// --seconds. --tiny: sizes that say nothing of speed, for the emulation and for trying scripts.
// Prints one JSON object.

#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/gguf.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "tests/benchmarks/device_timing.h"
#include "tests/benchmarks/program.h"

namespace reverie::benchmark {
namespace {

struct Sizes {
  int64_t copy_bytes, gemm;                           // of the ceilings; a square product
  int64_t rows, width, logit_rows, vocabulary, flat;  // of kernels that memory bounds
  int64_t product_rows;                               // tokens of a step
  int64_t attention_tokens, attention_width;
  std::vector<int64_t> contexts, head_sizes;
};
// Beyond what caches hold (50 MB on an H100).
Sizes large() {
  return {
      int64_t(1) << 30,   8192,          65536, 768, 8192, 50257, 124'000'000, 16384, 16384, 768,
      {1024, 2048, 4096}, {64, 128, 256}};
}
Sizes tiny() {
  return {4096, 32, 24, 64, 8, 101, 1000, 32, 32, 64, {16, 32}, {16, 64}};
}

class Bench {
 public:
  Bench(Device device, const Sizes& sizes, double seconds)
      : device_(device), s_(sizes), seconds_(seconds) {}

  Json measure() {
    Json result = {{"device", device_.kind == DeviceKind::cuda ? cuda::status().in_words : "cpu"},
                   {"flavour", flavour()},
                   {"ceilings", ceilings()}};
    norms();
    rows_of_logits();
    maps();
    embeddings();
    flat_buffers();
    stored_weights();
    result["memory"] = std::move(memory_);
    result["products"] = products();
    result["attention"] = attention();
    return result;
  }

 private:
  std::string flavour() const {
    if (device_.kind == DeviceKind::cpu) return "cpu";
    return cuda::status().flavour == cuda::Flavour::emulated ? "emulated" : "gpu";
  }

  // Numbers in [-1, 1), the same every time: what a product costs depends on its operands' bits.
  Tensor numbers(const Shape& shape, DType dtype = DType::f32) const {
    Tensor t = Tensor::empty(shape, DType::f32);
    float* x = t.mutable_data<float>();
    uint32_t state = 1;
    for (int64_t i = 0; i < t.numel(); ++i) {
      state = state * 1664525u + 1013904223u;
      x[i] = float(state >> 8) / float(1 << 23) - 1;
    }
    return t.to(dtype).to(device_);
  }
  Tensor indices(int64_t count, int64_t below) const {
    Tensor t = Tensor::empty({count}, DType::i32);
    uint32_t state = 1;
    for (int64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      t.mutable_data<int32_t>()[i] = int32_t(uint64_t(state) * uint64_t(below) >> 32);
    }
    return t.to(device_);
  }
  Tensor space(const Shape& shape, DType dtype = DType::f32) const {
    return Tensor::zeros(shape, dtype, device_);
  }
  template <class Args>
  double ms_of(const Kernel<Args>& kernel, const Args& args) const {
    return device_median_ms(seconds_, [&] { kernel(device_, args); });
  }

  Json ceilings() const {
    const Tensor from = numbers({s_.copy_bytes / 4});
    Tensor to = space({s_.copy_bytes / 4});
    const double copy_ms = device_median_ms(seconds_, [&] { to.copy_from(from); });
    Json found = {{"copy_gb_per_second", 2e-6 * double(from.bytes()) / copy_ms}};
    for (DType operands : {DType::f32, DType::bf16}) {
      const Tensor a = numbers({s_.gemm, s_.gemm}, operands);
      Tensor c = space({s_.gemm, s_.gemm});
      const Matmul args{a, a, 1.0, false, c};
      found[fmt::format("gemm_{}_tflops", name_of(operands))] =
          1e-9 * work(args).flops / ms_of(kernel::matmul, args);
    }
    return found;
  }

  template <class Args>
  void add(const Kernel<Args>& kernel, const std::string& what, const Args& args) {
    add_of_bytes(kernel, what, args, work(args).bytes);
  }
  template <class Args>
  void add_of_bytes(const Kernel<Args>& kernel, const std::string& what, const Args& args,
                    double bytes) {
    const double ms = ms_of(kernel, args);
    memory_.push_back({{"kernel", kernel.name()},
                       {"case", what},
                       {"bytes", bytes},
                       {"ms", ms},
                       {"gb_per_second", 1e-6 * bytes / ms}});
  }

  void norms() {
    const Shape shape = {s_.rows, s_.width};
    const Tensor x = numbers(shape), weight = numbers({s_.width}), none;
    Tensor sum = space(shape), y = space(shape), operand = space(shape, DType::bf16),
           mean = space({s_.rows}), rstd = space({s_.rows}), grad_weight = space({s_.width}), no;
    const std::string size = shape.str();
    add(kernel::norm_forward, "f32" + size,
        {Norm::layer, x, none, weight, none, 1e-5, no, y, mean, rstd});
    add(kernel::norm_forward, "f32" + size + " + residual to bf16",
        {Norm::layer, x, y, weight, none, 1e-5, sum, operand, mean, rstd});
    add(kernel::norm_backward, "f32" + size + ", weights too",
        {Norm::layer, x, weight, mean, rstd, y, sum, sum, grad_weight, no});
    add(kernel::softmax_forward, "f32" + size, {x, 1.0, none, y});
    add(kernel::softmax_backward, "f32" + size, {y, x, 1.0, sum});
  }

  // GPT-2's vocabulary is odd, so that its rows do not begin on boundaries of 16 bytes.
  void rows_of_logits() {
    const int64_t rows = s_.logit_rows, padded = (s_.vocabulary + 63) / 64 * 64;
    for (int64_t columns : {s_.vocabulary, padded}) {
      const Shape shape = {rows, columns};
      Tensor logits = numbers(shape), loss = space({rows}), log_sum_exp = space({rows});
      const Tensor targets = indices(rows, columns), grad_loss = numbers({rows});
      add(kernel::cross_entropy_forward, "f32" + shape.str(), {logits, targets, loss, log_sum_exp});
      add(kernel::cross_entropy_backward, "f32" + shape.str() + " in place",
          {logits, targets, log_sum_exp, grad_loss, logits});
    }
  }

  void maps() {
    const Shape shape = {s_.rows, 4 * s_.width};
    const Tensor x = numbers(shape), bias = numbers({4 * s_.width});
    Tensor y = space(shape), z = space(shape), grad_gate = space(shape), grad_up = space(shape),
           operand = space(shape, DType::bf16), columns = space({4 * s_.width});
    const std::string size = "f32" + shape.str();
    add(kernel::unary_forward, "gelu " + size, {Unary::gelu, x, y});
    add(kernel::unary_backward, "gelu " + size, {Unary::gelu, x, y, z});
    add(kernel::binary_forward, "add " + size, {Binary::add, x, y, z, 1, 1});
    add(kernel::bias_activation_forward, "gelu " + size + " to bf16, slope kept",
        {Unary::gelu, x, bias, operand, &z});
    add(kernel::bias_activation_backward, size + " to bf16", {z, x, operand});
    add(kernel::gated_forward, "silu " + size, {Unary::silu, x, y, z});
    add(kernel::gated_backward, "silu " + size, {Unary::silu, x, y, z, grad_gate, grad_up});
    add(kernel::dropout, size, {x, 0.1, 1, 0, y});
    add(kernel::cast, size + " to bf16", {x, operand});
    add(kernel::cast, size + " from bf16", {operand, y});
    add(kernel::sum_forward, "columns of " + size,
        {x, 1, s_.rows, 4 * s_.width, 1.0, false, columns});
  }

  // Of the table, the rows that are asked for count.
  void embeddings() {
    const int64_t count = s_.product_rows, period = std::min<int64_t>(1024, count);
    const Tensor tokens = indices(count, s_.vocabulary), table = numbers({s_.vocabulary, s_.width}),
                 positions = numbers({period, s_.width});
    Tensor y = numbers({count, s_.width}), grad_table = space(table.shape()),
           grad_positions = space(positions.shape());
    const std::vector<double> asked_for = tokens.to_vector();
    const double rows = double(std::set<double>(asked_for.begin(), asked_for.end()).size()) *
                        double(s_.width) * sizeof(float);
    const std::string size = fmt::format("f32{}, {} tokens at random", table.shape().str(), count);
    const EmbeddingForward forward{tokens, table, positions, 0, period, y};
    add_of_bytes(kernel::embedding_forward, size, forward,
                 double(tokens.bytes() + y.bytes() + positions.bytes()) + rows);
    const EmbeddingBackward backward{tokens, y, 0, period, grad_table, grad_positions};
    add_of_bytes(kernel::embedding_backward, size, backward,
                 double(tokens.bytes() + y.bytes() + 2 * positions.bytes()) + 2 * rows);
  }

  // What is read and written in its place counts twice.
  void flat_buffers() {
    const Shape shape = {s_.flat};
    const Tensor gradient = numbers(shape);
    Tensor parameter = numbers(shape), m = space(shape), v = space(shape),
           result = space({1}, DType::f64);
    const std::string size = "f32" + shape.str();
    const AdamW update{parameter, gradient, m, v, 1e-4, 0.9, 0.99, 1e-8, 0.1, 10, 1.0};
    add_of_bytes(kernel::adamw, size, update, work(update).bytes + 3 * double(m.bytes()));
    add(kernel::sum_squares, size, {gradient, result});
    const Accumulate sum{gradient, 1.0, m};
    add_of_bytes(kernel::accumulate, size, sum, work(sum).bytes + double(m.bytes()));
  }

  // Weights that stay as a file has them: widened for a product, and read by a single row.
  void stored_weights() {
    const int64_t rows = s_.rows, columns = 4 * s_.width;
    const Tensor x = numbers({1, columns}), rounded = x.to(Device{}).to(DType::bf16).to(device_);
    Tensor wide = space({rows, columns}), narrow = space({rows, columns}, DType::bf16),
           y = space({1, rows});
    for (CompactType type : {CompactType::q8_0, CompactType::q4_k, CompactType::q6_k}) {
      const Tensor weights = random_blocks(type, rows, columns);
      const std::string size =
          fmt::format("{}[{}, {}]", gguf_layout(uint32_t(type))->name, rows, columns);
      add(kernel::widen_rows, size + " to f32", {weights, wide});
      add(kernel::widen_rows, size + " to bf16", {weights, narrow});
      const Tensor right = weights.transpose(0, 1);
      add(kernel::matmul, "one row of f32 by " + size, {x, right, 1.0, false, y});
      if (device_.kind == DeviceKind::cuda)
        add(kernel::matmul, "one row of bf16 by " + size, {rounded, right, 1.0, false, y});
    }
  }
  // Any bytes will do: what a kernel costs does not depend on them.
  Tensor random_blocks(CompactType type, int64_t rows, int64_t columns) const {
    const GgufLayout& layout = *gguf_layout(uint32_t(type));
    const int64_t row_bytes = columns / int64_t(layout.elements) * int64_t(layout.bytes);
    const auto bytes = std::make_shared<Storage>(size_t(rows * row_bytes), Device{});
    auto* at = static_cast<std::byte*>(bytes->data());
    uint32_t state = 1;
    for (int64_t i = 0; i < rows * row_bytes; ++i) {
      state = state * 1664525u + 1013904223u;
      at[i] = std::byte(state >> 26);  // no infinity among the scales
    }
    return compact_on(compact_tensor({type, at, row_bytes, rows, columns}, bytes), device_);
  }

  // One linear layer's: y = x W, grad_x = grad_y W^T, grad_W = x^T grad_y; and the head's, whose
  // weight is the embedding, E [vocabulary, width].
  Json products() {
    Json found = Json::array();
    const int64_t n = s_.product_rows, d = s_.width;
    for (DType operands : {DType::f32, DType::bf16}) {
      const auto one = [&](const char* name, const Tensor& a, const Tensor& b) {
        Tensor c = space({a.size(0), b.size(1)});
        const Matmul args{a, b, 1.0, false, c};
        const double ms = ms_of(kernel::matmul, args);
        found.push_back({{"product", name},
                         {"size", fmt::format("{}x{}x{}", a.size(0), b.size(1), a.size(1))},
                         {"precision", name_of(operands)},
                         {"ms", ms},
                         {"tflops", 1e-9 * work(args).flops / ms}});
      };
      const Tensor x = numbers({n, d}, operands), wide = numbers({n, 4 * d}, operands),
                   weight = numbers({d, 4 * d}, operands),
                   table = numbers({s_.vocabulary, d}, operands);
      one("up forward", x, weight);
      one("up grad input", wide, weight.transpose(0, 1));
      one("up grad weight", x.transpose(0, 1), wide);
      one("head forward", x, table.transpose(0, 1));
    }
    return found;
  }

  Json attention() {
    Json found = Json::array();
    for (bool bf16 : {false, true})
      for (int64_t size : s_.head_sizes)
        for (int64_t context : s_.contexts) attention_of(context, size, bf16, found);
    return found;
  }
  // Query, key and value are views into one packed projection, as in a model.
  void attention_of(int64_t context, int64_t size, bool bf16, Json& found) {
    const int64_t heads = s_.attention_width / size, batch = s_.attention_tokens / context;
    const auto part = [&](const Tensor& t, int64_t which) {
      return t.view({batch, context, 3 * heads, size}).slice(2, which * heads, (which + 1) * heads);
    };
    const Shape packed = {batch, context, 3 * heads * size};
    const Tensor qkv = numbers(packed), grad_output = numbers({batch, context, heads, size}),
                 query = part(qkv, 0), key = part(qkv, 1), value = part(qkv, 2);
    const Tensor grad_qkv = space(packed);
    Tensor grad_query = part(grad_qkv, 0), grad_key = part(grad_qkv, 1),
           grad_value = part(grad_qkv, 2), output = space(grad_output.shape()),
           log_sum_exp = space({batch, heads, context});
    AttentionOptions options;
    options.scale = 1 / std::sqrt(double(size));
    options.bf16 = bf16;
    const auto add = [&](const char* pass, double flops, double ms) {
      found.push_back({{"pass", pass},
                       {"context", context},
                       {"head_size", size},
                       {"heads", heads},
                       {"batch", batch},
                       {"precision", bf16 ? "bf16" : "f32"},
                       {"ms", ms},
                       {"tflops", 1e-9 * flops / ms}});
    };
    const AttentionForward forward{query, key, value, options, output, log_sum_exp};
    add("forward", work(forward).flops, ms_of(kernel::attention_forward, forward));
    const AttentionBackward backward{query,       key,     value,      output,   log_sum_exp,
                                     grad_output, options, grad_query, grad_key, grad_value};
    add("backward", work(backward).flops, ms_of(kernel::attention_backward, backward));
  }

  Device device_;
  Sizes s_;
  double seconds_;
  Json memory_ = Json::array();
};

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  using namespace reverie;
  std::string device = "cuda";
  double seconds = 0.1;
  bool tiny = false;
  CLI::App app("How near the kernels come to what their device can do", "bench_kernels");
  app.add_option("--device", device, "where they run")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--seconds", seconds, "for each measure, at least")->check(CLI::PositiveNumber);
  app.add_flag("--tiny", tiny, "sizes that say nothing of speed");
  return benchmark::run_program(app, count, arguments, [&] {
    require(device == "cpu" || cuda::status().usable, "device cuda: {}; use --device cpu",
            cuda::status().in_words);
    require(tiny || (device == "cuda" && cuda::status().flavour == cuda::Flavour::on),
            "these sizes are for a GPU; --tiny has some for {}",
            device == "cpu" ? "the CPU" : "the emulation");
    const Device where{device == "cpu" ? DeviceKind::cpu : DeviceKind::cuda, 0};
    return benchmark::Bench(where, tiny ? benchmark::tiny() : benchmark::large(), seconds)
        .measure();
  });
}
