#include "kernels/case.h"
#include "kernels/copy.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

// Each takes a tensor to a view of it with one shape for every member of a pair.
using View = std::function<Tensor(const Tensor&)>;
struct Pair {
  std::string name;
  Shape from, to;  // of the whole tensors
  View from_view, to_view;
};

Tensor whole(const Tensor& t) {
  return t;
}

std::vector<Pair> pairs() {
  return {
      {"one element", {1}, {1}, whole, whole},
      {"flat", {100003}, {100003}, whole, whole},
      {"transposed", {33, 65}, {65, 33}, [](const Tensor& t) { return t.transpose(0, 1); }, whole},
      {"transposed on the other side",
       {300, 129},
       {129, 300},
       whole,
       [](const Tensor& t) { return t.transpose(0, 1); }},
      {"heads to the front",
       {3, 17, 4, 7},
       {3, 4, 17, 7},
       [](const Tensor& t) { return t.transpose(1, 2); },
       whole},
      {"every dimension turned",
       {3, 7, 5, 2},
       {2, 5, 7, 3},
       [](const Tensor& t) { return t.transpose(0, 3).transpose(1, 2); },
       whole},
      {"columns of a wider tensor",
       {7, 33},
       {7, 17},
       [](const Tensor& t) { return t.slice(1, 5, 22); },
       whole},
      {"into columns of a wider tensor",
       {7, 17},
       {7, 33},
       whole,
       [](const Tensor& t) { return t.slice(1, 5, 22); }},
      {"slices on both sides",
       {5, 9, 6},
       {4, 10, 8},
       [](const Tensor& t) { return t.slice(0, 1, 4).slice(2, 2, 5); },
       [](const Tensor& t) { return t.slice(0, 0, 3).slice(1, 1, 10).slice(2, 4, 7); }},
      {"one row of many", {9, 100}, {100}, [](const Tensor& t) { return t.select(0, 4); }, whole},
      {"one column of many",
       {100, 9},
       {100},
       [](const Tensor& t) { return t.select(1, 4); },
       whole},
  };
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const Pair& p : pairs()) {
    for (bool accumulate : {false, true}) {
      cases.push_back(
          {"strided_copy", p.name + (accumulate ? " accumulate" : ""), [=](Execution& run) {
             const Tensor x = p.from_view(run.input(p.from));
             Tensor& base = run.updated("y", p.to);
             Tensor y = p.to_view(base);
             Tensor places = Tensor::zeros(p.to, DType::f64);  // each element's own number, to find
                                                               // the view's elements in the whole
             for (int64_t i = 0; i < places.numel(); ++i)
               places.mutable_data<double>()[i] = double(i);
             const Values where = p.to_view(places).to_vector(), in = x.to_vector();
             Values expected = base.to_vector();
             kernel::strided_copy(run.device(), {x, accumulate, y});
             for (size_t i = 0; i < in.size(); ++i) {
               double& to = expected[size_t(where[i])];
               to = accumulate ? to + in[i] : in[i];
             }
             run.expect("y", expected);
           }});
    }
  }
  for (int64_t size : {1, 7, 64, 100003}) {
    for (bool narrow : {true, false}) {
      cases.push_back({"cast", fmt::format("{} {}", size, narrow ? "to bf16" : "from bf16"),
                       [=](Execution& run) {
                         Tensor x = run.input({size}).to(Device{}).to(DType::f32).clone();
                         if (narrow) {
                           auto* values = x.mutable_data<float>();
                           // What rounding can get wrong: ties, carries into the exponent,
                           // overflow, subnormal numbers, NaN and infinities.
                           const float odd[] = {
                               1.00390625f, 1.01171875f, 1.9999999f,          3.4e38f,
                               1e-41f,      -0.0f,       __builtin_nanf("1"), -__builtin_inff()};
                           for (int64_t i = 0; i < std::min<int64_t>(size, 8); ++i)
                             values[i] = odd[i];
                         } else {
                           x = x.to(DType::bf16);
                         }
                         x = x.to(run.device());
                         Tensor y =
                             Tensor::empty({size}, narrow ? DType::bf16 : DType::f32, run.device());
                         kernel::cast(run.device(), {x, y});
                         // bf16 has no place among a run's results, so its bits are compared here.
                         Tensor& same = run.output("same bits", {1});
                         same.fill(bit_identical(y, x.to(y.dtype())) ? 1 : 0);
                         run.expect("same bits", {1});
                       }});
    }
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor p = f32({4}), short_ = f32({3}), wrong = f64({4}), integers = i32({1, 2});
  r.refuses(kernel::strided_copy, {p, false, short_}, "strided_copy: y");
  r.refuses(kernel::strided_copy, {p, false, wrong}, "one dtype");
  r.refuses(kernel::strided_copy, {integers, true, integers}, "wanted f32 or f64");
  r.accepts(kernel::strided_copy, {integers, false, integers});
  Tensor narrow = Tensor::zeros({4}, DType::bf16), short_narrow = Tensor::zeros({3}, DType::bf16);
  r.accepts(kernel::cast, {p, narrow});
  r.refuses(kernel::cast, {p, wrong}, "wanted one in f32 and one in bf16");
  r.refuses(kernel::cast, {p, short_narrow}, "cast: y is bf16[3] cpu; wanted [4]");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
