// Losses.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/loss.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  const Tensor targets = Tensor::from<int32_t>({2, 3}, {4, -1, 0, 2, 2, -1});
  list.add("cross_entropy", {{2, 3, 5}}, [=](const Variables& v) {
    return Variables{cross_entropy(v[0], targets.to(v[0].device()))};
  });
  list.add("linear_cross_entropy", {{2, 3, 4}, {5, 4}}, [=](const Variables& v) {
    return Variables{linear_cross_entropy(v[0], v[1], targets.to(v[0].device()), 0.25)};
  });
  // Logits of a few units against a cap of 1.5: well into the bend.
  list.add("linear_cross_entropy_capped", {{2, 3, 4}, {5, 4}}, [=](const Variables& v) {
    return Variables{linear_cross_entropy(v[0], v[1], targets.to(v[0].device()), 0.25, 1.5)};
  });
  list.add("softcap", {{3, 5}}, [](const Variables& v) { return Variables{softcap(v[0], 0.8)}; });
  // Enough vocabulary and rows for three chunks; few elements, for each takes two evaluations.
  const int64_t rows = 150, vocabulary = 40000;
  Tensor many = Tensor::empty({rows}, DType::i32);
  for (int64_t i = 0; i < rows; ++i)
    many.mutable_data<int32_t>()[i] = int32_t(i % 7 == 3 ? -1 : (i * 271) % vocabulary);
  GradcheckOptions few;
  few.max_elements = 5;
  list.add(
      "linear_cross_entropy_in_chunks", {{rows, 2}, {vocabulary, 2}},
      [=](const Variables& v) {
        return Variables{linear_cross_entropy(v[0], v[1], many.to(v[0].device()), 1.0)};
      },
      few);

  list.refuses("cross_entropy", "cross_entropy_forward: targets is i32[3] cpu; wanted 2 elements",
               [] {
                 cross_entropy(zeros({2, 5}), Tensor::zeros({3}, DType::i32));
               });
  list.refuses("cross_entropy", "cross_entropy_forward: targets[1] is 5; wanted -1 <= index < 5",
               [] {
                 cross_entropy(zeros({2, 5}), Tensor::from<int32_t>({2}, {0, 5}));
               });
  list.refuses(
      "linear_cross_entropy",
      "linear_cross_entropy: weight is f64[5, 3] cpu; wanted [vocabulary, 4]", [] {
        linear_cross_entropy(zeros({2, 4}), zeros({5, 3}), Tensor::zeros({2}, DType::i32), 1);
      });
  list.refuses("linear_cross_entropy", "linear_cross_entropy: targets is i32[3] cpu; wanted 2", [] {
    linear_cross_entropy(zeros({2, 4}), zeros({5, 4}), Tensor::zeros({3}, DType::i32), 1);
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
