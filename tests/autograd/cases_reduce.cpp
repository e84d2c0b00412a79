// Sums along a dimension, and softmax.

#include <fmt/format.h>

#include "autograd/ops/reduce.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  for (int dim : {0, 1, -1}) {
    list.add(fmt::format("sum_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{sum(v[0], dim)}; });
    list.add(fmt::format("mean_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{mean(v[0], dim)}; });
    Shape initial;
    for (int i = 0; i < 3; ++i)
      if (i != (dim + 3) % 3) initial.push_back(Shape{2, 3, 4}[i]);
    list.add(fmt::format("cumulative_sum_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{cumulative_sum(v[0], dim)}; });
    list.add(fmt::format("cumulative_sum_initial_{}", dim), {{2, 3, 4}, initial},
             [=](const Variables& v) { return Variables{cumulative_sum(v[0], dim, v[1])}; });
  }
  list.add("sum_of_a_vector", {{5}}, [](const Variables& v) { return Variables{sum(v[0], 0)}; });
  list.add("sum_all", {{2, 3, 4}}, [](const Variables& v) { return Variables{sum_all(v[0])}; });
  list.add("softmax", {{2, 3, 5}},
           [](const Variables& v) { return Variables{softmax(v[0], 0.7)}; });
  const Tensor valid = Tensor::from<int32_t>({6}, {5, 1, 0, 3, 4, 2});
  list.add("softmax_valid", {{2, 3, 5}}, [=](const Variables& v) {
    return Variables{softmax(v[0], 1.3, valid.to(v[0].device()))};
  });

  list.refuses("sum", "sum: dim is 2; wanted -2 <= dim < 2 for x [2, 3]", [] {
    sum(zeros({2, 3}), 2);
  });
  list.refuses("sum_all", "sum_forward: x is i32[2] cpu; wanted f32 or f64",
               [] { sum_all(zeros({2}, DType::i32)); });
  list.refuses("cumulative_sum", "cumulative_sum: initial is f64[3] cpu; wanted [2], which is x",
               [] {
                 cumulative_sum(zeros({2, 3}), 1, zeros({3}));
               });
  list.refuses("softmax", "softmax_forward: valid is i32[3] cpu; wanted 2 elements", [] {
    softmax(zeros({2, 3}), 1, Tensor::zeros({3}, DType::i32));
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
