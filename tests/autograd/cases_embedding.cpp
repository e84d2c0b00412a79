// Tables.

#include "autograd/ops/embedding.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  const Tensor tokens = Tensor::from<int32_t>({2, 4}, {3, 0, 3, 3, 1, 3, 5, 0});
  list.add("embedding", {{6, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0])};
  });
  list.add("embedding_positions", {{6, 5}, {7, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0], v[1], 2)};
  });
  list.add("embedding_one_table_twice", {{6, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0], v[0], 1)};
  });

  const auto look_up = [](const Tensor& which, const Variable& positions) {
    embedding(which, zeros({6, 5}), positions);
  };
  list.refuses("embedding", "embedding_forward: indices[1] is 6; wanted 0 <= index < 6", [=] {
    look_up(Tensor::from<int32_t>({2}, {0, 6}), {});
  });
  list.refuses("embedding", "embedding_forward: indices is f32[2] cpu; wanted i32",
               [=] { look_up(Tensor::zeros({2}, DType::f32), {}); });
  list.refuses("embedding", "positions 0..3 are outside the table of 3; shorten the sequence", [=] {
    look_up(Tensor::zeros({4}, DType::i32), zeros({3, 5}));
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
