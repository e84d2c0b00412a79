// Products and linear layers.

#include <fmt/format.h>

#include "autograd/ops/matmul.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  // Stored shapes of op(a) [M, K] and op(b) [K, N], with batches in front.
  const auto stored = [](std::vector<int64_t> batch, int64_t rows, int64_t columns,
                         bool transpose) {
    Shape s;
    for (int64_t b : batch) s.push_back(b);
    s.push_back(transpose ? columns : rows);
    s.push_back(transpose ? rows : columns);
    return s;
  };
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      const auto function = [=](const Variables& v) {
        return Variables{matmul(v[0], v[1], ta, tb, 0.5)};
      };
      const std::string suffix = fmt::format("{}{}", ta ? "_at" : "", tb ? "_bt" : "");
      list.add("matmul" + suffix, {stored({}, 3, 4, ta), stored({}, 4, 5, tb)}, function);
      list.add("matmul_batched" + suffix, {stored({2}, 3, 4, ta), stored({2}, 4, 5, tb)}, function);
      list.add("matmul_shared_b" + suffix, {stored({2}, 3, 4, ta), stored({}, 4, 5, tb)}, function);
      list.add("matmul_column" + suffix, {stored({2}, 3, 4, ta), stored({}, 4, 1, tb)}, function);
    }
  }
  list.add("matmul_of_one_thing", {{3, 3}},
           [](const Variables& v) { return Variables{matmul(v[0], v[0])}; });
  for (WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out}) {
    const bool out_in = layout == WeightLayout::out_in;
    const Shape weight = out_in ? Shape{5, 4} : Shape{4, 5};
    const std::string suffix = out_in ? "_out_in" : "_in_out";
    const auto with = [=](const Variables& v) {
      return Variables{linear(v[0], v[1], v[2], layout)};
    };
    const auto without = [=](const Variables& v) {
      return Variables{linear(v[0], v[1], {}, layout)};
    };
    list.add("linear" + suffix, {{3, 4}, weight, {5}}, with);
    list.add("linear_3d" + suffix, {{2, 3, 4}, weight, {5}}, with);
    list.add("linear_1d" + suffix, {{4}, weight, {5}}, with);
    list.add("linear_without_bias" + suffix, {{2, 3, 4}, weight}, without);
    list.add("linear_of_its_weight" + suffix, {{4, 4}},
             [=](const Variables& v) { return Variables{linear(v[0], v[0], {}, layout)}; });
  }

  list.refuses("matmul", "matmul: a is f64[3] cpu and b is f64[3, 4] cpu; wanted [M, K] [K, N]",
               [] {
                 matmul(zeros({3}), zeros({3, 4}));
               });
  list.refuses("matmul", "matmul: a f64[2, 3] cpu has 3 columns but b f64[4, 5] cpu has 4 rows",
               [] {
                 matmul(zeros({2, 3}), zeros({5, 4}), false, true);
               });
  list.refuses("matmul", "the batches of a f64[2, 3, 4] cpu, b f64[3, 4, 5] cpu", [] {
    matmul(zeros({2, 3, 4}), zeros({3, 4, 5}));
  });
  list.refuses(
      "linear",
      "linear: x is f64[2, 3] cpu; wanted [.., 4] to go with the weight f64[5, 4] cpu [out, in]",
      [] {
        linear(zeros({2, 3}), zeros({5, 4}));
      });
  list.refuses("linear", "linear_forward: bias is f64[4] cpu; wanted [5]", [] {
    linear(zeros({2, 4}), zeros({5, 4}), zeros({4}));
  });
  list.refuses("linear_activation", "bias_activation_forward: bias is f64[4] cpu; wanted [5]", [] {
    linear_activation(Unary::relu, zeros({2, 4}), zeros({5, 4}), zeros({4}));
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
