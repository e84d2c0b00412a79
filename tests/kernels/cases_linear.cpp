#include "kernels/case.h"
#include "kernels/linear.h"
#include "kernels/naive.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Sizes {
  int64_t rows, in, out;
};
struct Options {
  bool out_in = false, bf16 = false, accumulate = false, input = true;  // the last two: backward
};

std::string name_of_case(Sizes s, Options o) {
  return fmt::format("{}x{}x{}{}{}{}{}", s.rows, s.in, s.out, o.out_in ? " out_in" : " in_out",
                     o.bf16 ? " bf16" : "", o.accumulate ? " accumulate" : "",
                     o.input ? "" : " without input");
}

// As a product takes it: rounded to bf16 in runs of f32, where the case says so.
Tensor operand(const Tensor& t, const Options& o) {
  return o.bf16 && t.dtype() == DType::f32 ? t.to(DType::bf16) : t;
}
// A weight as stored, and as [in, out].
Tensor stored_weight(Execution& run, Sizes s, Options o) {
  return operand(run.input(o.out_in ? Shape{s.out, s.in} : Shape{s.in, s.out}), o);
}
Tensor turned(const Tensor& t, bool turn) {
  return turn ? t.transpose(0, 1) : t;
}

void run_forward(Execution& run, Sizes s, Options o) {
  const Tensor x = operand(run.input({s.rows, s.in}), o), bias = run.input({s.out});
  const Tensor weight = turned(stored_weight(run, s, o), o.out_in);
  Tensor& y = run.output("y", {s.rows, s.out});
  kernel::linear_forward(run.device(), {x, weight, bias, y});
  Values expected = naive::matmul(x.to_vector(), weight.to_vector(), s.rows, s.out, s.in);
  const Values shift = bias.to_vector();
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += shift[i % size_t(s.out)];
  run.expect("y", expected, 4);
}

void run_backward(Execution& run, Sizes s, Options o) {
  const Tensor grad_y = run.input({s.rows, s.out}), x = operand(run.input({s.rows, s.in}), o);
  const Tensor g = operand(grad_y, o), weight = turned(stored_weight(run, s, o), o.out_in);
  const Shape shape = o.out_in ? Shape{s.out, s.in} : Shape{s.in, s.out};
  const auto result = [&](const char* name, const Shape& of) -> Tensor& {
    return o.accumulate ? run.updated(name, of) : run.output(name, of);
  };
  Tensor &grad_weight = result("grad_weight", shape), &grad_bias = result("grad_bias", {s.out});
  Values of_weight(size_t(s.in * s.out)), of_bias(size_t(s.out));
  if (o.accumulate) {
    of_weight = grad_weight.to_vector();
    of_bias = grad_bias.to_vector();
  }
  Tensor grad_x = o.input ? run.output("grad_x", {s.rows, s.in}) : Tensor();
  const Tensor weight_transposed = weight.transpose(0, 1);
  const Matmul input{g, weight_transposed, 1.0, false, grad_x};
  const Tensor left = turned(o.out_in ? g : x, true);
  kernel::linear_backward(run.device(), {grad_y,
                                         {left, o.out_in ? x : g, 1.0, o.accumulate, grad_weight},
                                         o.input ? &input : nullptr,
                                         o.accumulate,
                                         grad_bias});

  const Values full = grad_y.to_vector(), rounded = g.to_vector(), inputs = x.to_vector();
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t j = 0; j < s.out; ++j) {
      of_bias[size_t(j)] += full[size_t(row * s.out + j)];
      for (int64_t i = 0; i < s.in; ++i)
        of_weight[size_t(o.out_in ? j * s.in + i : i * s.out + j)] +=
            inputs[size_t(row * s.in + i)] * rounded[size_t(row * s.out + j)];
    }
  run.expect("grad_weight", of_weight, 4);
  run.expect("grad_bias", of_bias, 4);
  if (o.input)
    run.expect("grad_x", naive::matmul(rounded, weight_transposed.to_vector(), s.rows, s.in, s.out),
               4);
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  const auto add = [&](const char* row, void (*body)(Execution&, Sizes, Options), Sizes s,
                       Options o) {
    cases.push_back({row, name_of_case(s, o), [=](Execution& run) { body(run, s, o); }});
  };
  for (Sizes s : {Sizes{1, 1, 1}, {1, 33, 65}, {7, 3, 5}, {64, 24, 8}, {65, 17, 36}, {129, 70, 33}})
    for (bool out_in : {false, true})
      for (bool bf16 : {false, true}) {
        add("linear_forward", run_forward, s, {out_in, bf16});
        for (bool accumulate : {false, true})
          for (bool input : {false, true})
            add("linear_backward", run_backward, s, {out_in, bf16, accumulate, input});
      }
  // Empty products: a bias, and sums for its gradient, without a weight.
  add("linear_forward", run_forward, {3, 0, 5}, {});
  add("linear_backward", run_backward, {3, 0, 5}, {});
  return cases;
}

void refusals(Refusals& r) {
  const Tensor x = f32({2, 3}), weight = f32({3, 4}), bias = f32({4}), grad_y = f32({2, 4});
  Tensor y = f32({2, 4}), wide = f32({2, 6}), gapped = wide.slice(1, 0, 4), grad_bias = f32({4});
  r.accepts(kernel::linear_forward, {x, weight, bias, y});
  r.refuses(kernel::linear_forward, {x, f32({4, 4}), bias, y}, "has 3 columns but b");
  r.refuses(kernel::linear_forward, {x, weight, f32({3}), y}, "linear_forward: bias is");
  r.refuses(kernel::linear_forward, {x, weight, f64({4}), y}, "one dtype");
  r.refuses(kernel::linear_forward, {x, weight, bias, gapped}, "linear_forward: y");
  Tensor grad_weight = f32({3, 4}), grad_x = f32({2, 3}), short_ = f32({3});
  const Tensor x_transposed = x.transpose(0, 1), weight_transposed = weight.transpose(0, 1);
  const Matmul product{x_transposed, grad_y, 1, false, grad_weight},
      input{grad_y, weight_transposed, 1, false, grad_x},
      wrong_input{grad_y, weight, 1, false, grad_x};
  r.accepts(kernel::linear_backward, {grad_y, product, &input, false, grad_bias});
  r.accepts(kernel::linear_backward, {grad_y, product, nullptr, true, grad_bias});
  r.refuses(kernel::linear_backward, {grad_y, product, &wrong_input, false, grad_bias},
            "has 4 columns but b");
  r.refuses(kernel::linear_backward, {grad_y, product, nullptr, false, short_},
            "linear_backward: grad_bias is");
  r.refuses(kernel::linear_backward, {f32({5, 4}), product, nullptr, false, grad_bias},
            "sums over 2 rows of f32[3, 2] cpu; wanted the 5 of grad_y");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
