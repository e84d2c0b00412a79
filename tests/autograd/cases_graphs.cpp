// Graphs of several ops.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/rematerialize.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  list.add("rematerialized_block", {{3, 4}, {4, 4}, {4}}, [](const Variables& v) {
    default_generator() = Generator(5);
    const auto block = [](const Variables& in) {
      return add(dropout(gelu(linear(in[0], in[1], in[2])), 0.2), in[0]);
    };
    return Variables{rematerialize(block, {rematerialize(block, v), v[1], v[2]})};
  });
  list.add("diamond", {{3, 4}, {3, 4}}, [](const Variables& v) {
    const Variable a = multiply(v[0], v[1]), b = silu(a), c = sigmoid(a);
    return Variables{add(multiply(b, c), a), subtract(b, v[0])};
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
