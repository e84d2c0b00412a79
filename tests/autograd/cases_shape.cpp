// Layouts.

#include <fmt/format.h>

#include "autograd/ops/shape.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  list.add("reshape", {{2, 3, 4}}, [](const Variables& v) {
    return Variables{reshape(v[0], {6, -1})};
  });
  list.add("transpose", {{2, 3, 4}},
           [](const Variables& v) { return Variables{transpose(v[0], 0, -1)}; });
  for (int dim : {0, 1, -1}) {
    list.add(fmt::format("slice_{}", dim), {{3, 4, 5}},
             [=](const Variables& v) { return Variables{slice(v[0], dim, 1, 3)}; });
    list.add(fmt::format("overlapping_slices_{}", dim), {{3, 4, 5}}, [=](const Variables& v) {
      return Variables{slice(v[0], dim, 0, 2), slice(v[0], dim, 1, 3)};
    });
    Shape first{2, 2, 2}, second{2, 2, 2};
    second[dim] = 3;
    list.add(fmt::format("concat_{}", dim), {first, second, first}, [=](const Variables& v) {
      return Variables{concat({v[0], v[1], v[2]}, dim)};
    });
    list.add(fmt::format("concat_of_one_thing_{}", dim), {first}, [=](const Variables& v) {
      return Variables{concat({v[0], v[0]}, dim)};
    });
    Shape thin{2, 3, 4};
    thin[dim] = 1;
    list.add(fmt::format("expand_{}", dim), {thin},
             [=](const Variables& v) { return Variables{expand(v[0], dim, 5)}; });
  }

  list.refuses("reshape", "cannot view f64[2, 3] cpu as [4, 2]", [] {
    reshape(zeros({2, 3}), {4, 2});
  });
  list.refuses("transpose", "dimension 2 of a tensor f64[2, 3] cpu", [] {
    transpose(zeros({2, 3}), 0, 2);
  });
  list.refuses("slice", "slice [1, 4) of dimension 1 of f64[2, 3] cpu", [] {
    slice(zeros({2, 3}), 1, 1, 4);
  });
  list.refuses(
      "concat",
      "concat: a part is f64[2, 4] cpu; wanted the sizes of part 0, f64[2, 3] cpu, except along 0",
      [] {
        concat({zeros({2, 3}), zeros({2, 4})}, 0);
      });
  list.refuses("concat", "concat: dim is 2; wanted -2 <= dim < 2", [] {
    concat({zeros({2, 3})}, 2);
  });
  list.refuses("expand", "expand: x is f64[2, 3] cpu and dim 1, 5 times; wanted size 1 there", [] {
    expand(zeros({2, 3}), 1, 5);
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
