// Weights that stay as a file has them, as operands of every row that reads them so. The reference
// multiplies what core/gguf_dequantize.cpp gives for them.

#include "kernels/case.h"
#include "kernels/copy.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"
#include "kernels/naive.h"
#include "kernels/random_blocks.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

constexpr int64_t kOutputs = 67;  // rows of weights: a panel, and what is left

// Two blocks of every type, or an odd number of columns where a row may end anywhere.
int64_t columns_of(CompactType type, bool odd) {
  const auto block = int64_t(layout_of(type).elements);
  return block == 1 ? (odd ? 83 : 84) : 2 * block;
}
std::vector<int64_t> all_columns_of(CompactType type) {
  if (layout_of(type).elements == 1) return {columns_of(type, false), columns_of(type, true)};
  return {columns_of(type, false)};
}

class PanelScope {
 public:
  explicit PanelScope(int64_t numbers) : before_(numbers_of_panel()) {
    set_numbers_of_panel(numbers);
  }
  ~PanelScope() { set_numbers_of_panel(before_); }

 private:
  int64_t before_;
};

struct Options {
  int64_t m;                            // rows of a
  bool backward = false, bf16 = false;  // a is [m, outputs], as for the gradient of the input; bf16
  bool panels = false, accumulate = false;
};
std::string name_of_case(CompactType type, int64_t columns, Options o) {
  return fmt::format("{} {}x{}x{}{}{}{}{}", name_of(type), o.m, kOutputs, columns,
                     o.backward ? " to the input" : "", o.bf16 ? " bf16" : "",
                     o.panels ? " in panels" : "", o.accumulate ? " accumulate" : "");
}

// The operands of a run: weights as they are stored where the row takes them so, a in bf16 where
// the case says so. Both as doubles.
struct Operands {
  Tensor a, weights;
  Values left, right;
};
Operands operands_of(Execution& run, CompactType type, int64_t columns, Options o) {
  Tensor weights = run.stored(type, kOutputs, columns), wide = widened(weights);
  Tensor a = run.input({o.m, o.backward ? kOutputs : columns});
  const bool bf16 = o.bf16 && run.dtype() == DType::f32;
  if (bf16) {
    a = a.to(DType::bf16);
    wide = wide.to(DType::bf16);
  }
  // No row multiplies them in f64, and the CPU takes none beside operands of bf16.
  if (run.dtype() == DType::f64)
    weights = wide.to(DType::f64);
  else if (bf16 && run.device() == Device{})
    weights = wide;
  const Tensor right = o.backward ? wide : wide.transpose(0, 1);
  return {a, weights, a.to_vector(), right.to_vector()};
}

void multiply(Execution& run, CompactType type, int64_t columns, Options o) {
  const PanelScope panels(o.panels ? 1 : numbers_of_panel());
  const Operands with = operands_of(run, type, columns, o);
  const int64_t n = o.backward ? columns : kOutputs, k = o.backward ? kOutputs : columns;
  Tensor& c = o.accumulate ? run.updated("c", {o.m, n}) : run.output("c", {o.m, n});
  const Values before = o.accumulate ? c.to_vector() : Values(size_t(o.m * n));
  const Tensor b = o.backward ? with.weights : with.weights.transpose(0, 1);
  kernel::matmul(run.device(), {with.a, b, 0.5, o.accumulate, c});
  Values expected = naive::matmul(with.left, with.right, o.m, n, k);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = before[i] + 0.5 * expected[i];
  run.expect("c", expected, 4);
}

void multiply_with_bias(Execution& run, CompactType type, int64_t columns, Options o) {
  const PanelScope panels(o.panels ? 1 : numbers_of_panel());
  const Operands with = operands_of(run, type, columns, o);
  const Tensor bias = run.input({kOutputs});
  Tensor& y = run.output("y", {o.m, kOutputs});
  kernel::linear_forward(run.device(), {with.a, with.weights.transpose(0, 1), bias, y});
  Values expected = naive::matmul(with.left, with.right, o.m, kOutputs, columns);
  const Values shift = bias.to_vector();
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += shift[i % size_t(kOutputs)];
  run.expect("y", expected, 4);
}

// The row has no f64: its runs see the bits of f32 alone.
void widen(Execution& run, CompactType type, int64_t columns) {
  const Tensor weights = run.stored(type, kOutputs, columns), wide = widened(weights);
  Tensor aside = Tensor::empty(weights.shape(), DType::f32, run.device());
  const bool in_f32 = run.dtype() == DType::f32;
  Tensor& y = in_f32 ? run.output("y", weights.shape()) : aside;
  kernel::widen_rows(run.device(), {weights, y});
  if (in_f32) run.expect("y", wide.to_vector());
  run.output("same bits", {1}).fill(bit_identical(y, wide) ? 1 : 0);
  run.expect("same bits", {1});
  run.expect_rounded("rounded", wide, [&](Tensor& narrow) {
    kernel::widen_rows(run.device(), {weights, narrow});
  });
}

void look_up(Execution& run, CompactType type, int64_t columns, bool with_positions) {
  const Tensor stored = run.stored(type, kOutputs, columns), wide = widened(stored),
               table = run.dtype() == DType::f64 ? wide.to(DType::f64) : stored;
  const std::vector<int32_t> index = {66, 0, 7, 7, 65};
  const int64_t period = 2, first = 1;
  const Tensor indices = run.indices(index),
               positions = with_positions ? run.input({first + period, columns}) : Tensor();
  Tensor& y = run.output("y", {int64_t(index.size()), columns});
  kernel::embedding_forward(run.device(), {indices, table, positions, first, period, y});
  const Values rows = wide.to_vector(), places = with_positions ? positions.to_vector() : Values();
  Values expected;
  for (size_t n = 0; n < index.size(); ++n)
    for (int64_t i = 0; i < columns; ++i)
      expected.push_back(
          rows[size_t(index[n] * columns + i)] +
          (with_positions ? places[size_t((first + int64_t(n) % period) * columns + i)] : 0));
  run.expect("y", expected);
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const CompactType type : kCompactTypes)
    for (const int64_t columns : all_columns_of(type)) {
      const auto add = [&](const char* row, Options o, auto body) {
        cases.push_back({row, name_of_case(type, columns, o),
                         [=](Execution& run) { body(run, type, columns, o); }});
      };
      for (const Options o :
           {Options{.m = 1}, Options{.m = 3, .accumulate = true}, Options{.m = 4, .panels = true},
            Options{.m = 5}, Options{.m = 9, .panels = true, .accumulate = true},
            Options{.m = 9, .backward = true, .accumulate = true},
            Options{.m = 9, .backward = true, .panels = true},
            Options{.m = 3, .backward = true, .panels = true, .accumulate = true},
            Options{.m = 1, .bf16 = true}, Options{.m = 5, .bf16 = true},
            Options{.m = 9, .bf16 = true, .panels = true},
            Options{.m = 9, .backward = true, .bf16 = true},
            Options{.m = 9, .backward = true, .bf16 = true, .panels = true, .accumulate = true}})
        add("matmul", o, multiply);
      for (const Options o :
           {Options{.m = 1}, Options{.m = 4}, Options{.m = 9}, Options{.m = 9, .panels = true},
            Options{.m = 1, .bf16 = true}, Options{.m = 9, .bf16 = true}})
        add("linear_forward", o, multiply_with_bias);
      const std::string name = fmt::format("{} {}", name_of(type), columns);
      cases.push_back({"widen_rows", name, [=](Execution& run) { widen(run, type, columns); }});
      for (const bool positions : {false, true})
        cases.push_back({"embedding_forward", name + (positions ? " positions" : ""),
                         [=](Execution& run) { look_up(run, type, columns, positions); }});
    }
  return cases;
}

void refusals(Refusals& r) {
  const Tensor narrow = Tensor::zeros({3, 4}, DType::bf16), weights = compact_tensor(narrow),
               turned = weights.transpose(0, 1), plain = f32({3, 4});
  Tensor y = f32({3, 4}), rounded = Tensor::zeros({3, 4}, DType::bf16), wide = f64({3, 4}),
         short_ = f32({2, 4}), c = f32({3, 3});
  r.accepts(kernel::widen_rows, {weights, y});
  r.accepts(kernel::widen_rows, {weights, rounded});
  r.refuses(kernel::widen_rows, {plain, y}, "are no whole rows that are stored otherwise");
  r.refuses(kernel::widen_rows, {turned, y}, "are no whole rows that are stored otherwise");
  r.refuses(kernel::widen_rows, {weights, wide}, "wanted f32 or bf16");
  r.refuses(kernel::widen_rows, {weights, short_}, "widen_rows: y is f32[2, 4] cpu; wanted [3, 4]");
  // The CPU reads them beside f32 alone.
  r.accepts(kernel::matmul, {plain, turned, 1, false, c});
  r.refuses(kernel::matmul, {narrow, turned, 1, false, c}, "one dtype");
  const WeightsAsOn gpu(Device{DeviceKind::cuda, 0});
  r.accepts(kernel::matmul, {narrow, turned, 1, false, c});
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
