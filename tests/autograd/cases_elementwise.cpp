// Elementwise ops.

#include <fmt/format.h>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  for (const auto& entry : kUnaryFunctions) {
    const Unary f = entry.function;
    const std::string_view name = entry.name;
    list.add(fmt::format("unary_{}", name), {{3, 19}},
             [f](const Variables& v) { return Variables{unary(f, v[0])}; });
    list.add(fmt::format("bias_activation_{}", name), {{2, 3, 7}, {7}},
             [f](const Variables& v) { return Variables{bias_activation(f, v[0], v[1])}; });
    list.add(fmt::format("bias_activation_{}_without_bias", name), {{5, 7}},
             [f](const Variables& v) { return Variables{bias_activation(f, v[0], {})}; });
    list.add(fmt::format("linear_activation_{}", name), {{2, 3, 5}, {7, 5}, {7}},
             [f](const Variables& v) { return Variables{linear_activation(f, v[0], v[1], v[2])}; });
    list.add(fmt::format("linear_activation_{}_in_out_without_bias", name), {{4, 5}, {5, 7}},
             [f](const Variables& v) {
               return Variables{linear_activation(f, v[0], v[1], {}, WeightLayout::in_out)};
             });
    list.add(fmt::format("gated_{}", name), {{2, 3, 7}, {2, 3, 7}},
             [f](const Variables& v) { return Variables{gated(f, v[0], v[1])}; });
  }
  const Shape broadcasts[] = {{2, 3, 4}, {4},       {3, 1},    {2, 3, 1}, {1},      {3, 4},
                              {2, 1, 1}, {1, 3, 1}, {1, 1, 4}, {1, 1, 1}, {1, 3, 4}};
  for (const auto& entry : kBinaryFunctions) {
    const Binary f = entry.function;
    const std::string_view name = entry.name;
    const auto function = [f](const Variables& v) { return Variables{binary(f, v[0], v[1])}; };
    for (const Shape& b : broadcasts)
      list.add(fmt::format("{}_{}", name, b.str()), {{2, 3, 4}, b}, function);
    list.add(fmt::format("{}_over_sizes_of_1", name), {{1, 3, 1, 4}, {3, 1, 1}}, function);
    list.add(fmt::format("{}_of_one_thing", name), {{3, 4}},
             [f](const Variables& v) { return Variables{binary(f, v[0], v[0])}; });
  }
  list.add("affine", {{3, 5}},
           [](const Variables& v) { return Variables{affine(v[0], -2.5, 0.75)}; });
  list.add("scale", {{17}}, [](const Variables& v) { return Variables{scale(v[0], 3)}; });
  for (int64_t n : {1, 7, 64}) {
    list.add(fmt::format("dropout_of_{}", n), {{n}}, [](const Variables& v) {
      default_generator() = Generator(7, 3);
      return Variables{dropout(v[0], 0.3)};
    });
  }

  list.refuses("unary", "unary_forward: x is i32[2] cpu; wanted f32 or f64",
               [] { relu(zeros({2}, DType::i32)); });
  list.refuses("binary", "binary: b is [3]; wanted a's shape [2], or sizes 1",
               [] { add(zeros({2}), zeros({3})); });
  list.refuses("binary", "binary_forward: b is f32[2] cpu but a is f64[2] cpu; wanted one dtype",
               [] { add(zeros({2}), zeros({2}, DType::f32)); });
  list.refuses("affine", "affine: x is i32[2] cpu; wanted f32 or f64",
               [] { scale(zeros({2}, DType::i32), 2); });
  list.refuses("bias_activation",
               "bias_activation_forward: bias is f64[3] cpu; wanted [4] to go with x f64[2, 4] cpu",
               [] {
                 bias_activation(Unary::relu, zeros({2, 4}), zeros({3}));
               });
  list.refuses("gated", "gated_forward: up is f64[4, 2] cpu; wanted [2, 4]", [] {
    gated(Unary::silu, zeros({2, 4}), zeros({4, 2}));
  });
  list.refuses("dropout", "dropout: p is 1; wanted 0 <= p < 1", [] { dropout(zeros({2}), 1); });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
