#include "kernels/case.h"
#include "kernels/elementwise.h"
#include "kernels/naive.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

constexpr int64_t kCounts[] = {1, 3, 7, 17, 33, 65, 100, 70001};
struct Matrix {
  int64_t rows, columns;
};
constexpr Matrix kMatrices[] = {{1, 1},  {3, 7},   {7, 3},    {17, 33},
                                {1, 65}, {100, 1}, {65, 100}, {301, 129}};

Values map(const Values& x, const std::function<double(double)>& f) {
  Values y;
  for (double v : x) y.push_back(f(v));
  return y;
}
Values zip(const Values& a, const Values& b, const std::function<double(double, double)>& f) {
  Values y;
  for (size_t i = 0; i < a.size(); ++i) y.push_back(f(a[i], b[i % b.size()]));
  return y;
}

void unary(std::vector<Case>& cases) {
  for (const auto& entry : kUnaryFunctions) {
    const Unary f = entry.function;
    const std::string_view called = entry.name;
    for (int64_t n : kCounts) {
      cases.push_back({"unary_forward", fmt::format("{} n{}", called, n), [=](Execution& run) {
                         const Tensor x = run.input({n}, 3);
                         kernel::unary_forward(run.device(), {f, x, run.output("y", {n})});
                         run.expect(
                             "y", map(x.to_vector(), [=](double v) { return naive::value(f, v); }),
                             2, 0.1);
                       }});
      cases.push_back(
          {"unary_backward", fmt::format("{} n{}", called, n), [=](Execution& run) {
             const Tensor x = run.input({n}, 2), grad_y = run.input({n});
             kernel::unary_backward(run.device(), {f, x, grad_y, run.output("grad_x", {n})});
             run.expect("grad_x",
                        zip(x.to_vector(), grad_y.to_vector(),
                            [=](double v, double g) { return g * naive::derivative(f, v); }),
                        4, 0.1);
           }});
    }
    cases.push_back({"unary_forward", fmt::format("{} in place", called), [=](Execution& run) {
                       Tensor& x = run.updated("x", {33});
                       const Values before = x.to_vector();
                       kernel::unary_forward(run.device(), {f, x, x});
                       run.expect("x", map(before, [=](double v) { return naive::value(f, v); }), 2,
                                  0.1);
                     }});
    cases.push_back(
        {"unary_backward", fmt::format("{} over its gradient", called), [=](Execution& run) {
           const Tensor x = run.input({65});
           Tensor& grad = run.updated("grad", {65});
           const Values before = grad.to_vector();
           kernel::unary_backward(run.device(), {f, x, grad, grad});
           run.expect("grad",
                      zip(x.to_vector(), before,
                          [=](double v, double g) { return g * naive::derivative(f, v); }),
                      4, 0.1);
         }});
  }
}

void binary(std::vector<Case>& cases) {
  struct Layout {
    int64_t outer, middle, inner;
  };
  for (const auto& entry : kBinaryFunctions) {
    const Binary f = entry.function;
    const std::string_view called = entry.name;
    for (Layout l : {Layout{1, 1, 1},
                     {1, 70001, 1},
                     {1, 65, 1},
                     {7, 33, 1},
                     {513, 129, 1},
                     {3, 7, 17},
                     {1, 17, 3},
                     {9, 65, 100}}) {
      cases.push_back(
          {"binary_forward", fmt::format("{} {}x{}x{}", called, l.outer, l.middle, l.inner),
           [=](Execution& run) {
             const Shape shape{l.outer, l.middle, l.inner};
             const Tensor a = run.input(shape), b = run.input({l.middle});
             kernel::binary_forward(run.device(),
                                    {f, a, b, run.output("y", shape), l.outer, l.inner});
             const Values left = a.to_vector(), right = b.to_vector();
             Values y;
             for (int64_t i = 0; i < a.numel(); ++i)
               y.push_back(naive::value(f, left[size_t(i)], right[size_t(i / l.inner % l.middle)]));
             run.expect("y", y);
           }});
    }
    cases.push_back(
        {"binary_forward", fmt::format("{} over a, then over b", called), [=](Execution& run) {
           Tensor &a = run.updated("a", {100}), &b = run.updated("b", {100});
           const Values left = a.to_vector(), right = b.to_vector();
           kernel::binary_forward(run.device(), {f, a, b, a, 1, 1});
           run.expect("a",
                      zip(left, right, [=](double x, double y) { return naive::value(f, x, y); }));
           const Values again = a.to_vector();
           kernel::binary_forward(run.device(), {f, a, b, b, 1, 1});
           run.expect("b",
                      zip(again, right, [=](double x, double y) { return naive::value(f, x, y); }));
         }});
  }
}

void linear(std::vector<Case>& cases) {
  for (int64_t n : kCounts) {
    cases.push_back({"affine", fmt::format("n{}", n), [=](Execution& run) {
                       const Tensor x = run.input({n});
                       kernel::affine(run.device(), {x, -1.5, 0.25, run.output("y", {n})});
                       run.expect("y",
                                  map(x.to_vector(), [](double v) { return -1.5 * v + 0.25; }));
                     }});
    cases.push_back({"accumulate", fmt::format("n{}", n), [=](Execution& run) {
                       const Tensor x = run.input({n});
                       Tensor& y = run.updated("y", {n});
                       const Values before = y.to_vector();
                       kernel::accumulate(run.device(), {x, 0.75, y});
                       run.expect("y", zip(before, x.to_vector(),
                                           [](double a, double b) { return a + 0.75 * b; }));
                     }});
  }
  cases.push_back({"affine", "in place", [](Execution& run) {
                     Tensor& x = run.updated("x", {17});
                     const Values before = x.to_vector();
                     kernel::affine(run.device(), {x, 2, 1, x});
                     run.expect("x", map(before, [](double v) { return 2 * v + 1; }));
                   }});
}

void fused(std::vector<Case>& cases) {
  for (const auto& entry : kUnaryFunctions) {
    const Unary f = entry.function;
    const std::string_view called = entry.name;
    for (Matrix m : kMatrices) {
      for (bool with_bias : {true, false}) {
        const std::string name =
            fmt::format("{} {}x{}{}", called, m.rows, m.columns, with_bias ? " bias" : "");
        const Shape shape{m.rows, m.columns};
        cases.push_back({"bias_activation_forward", name, [=](Execution& run) {
                           const Tensor x = run.input(shape, 2),
                                        bias = with_bias ? run.input({m.columns}) : Tensor();
                           Tensor& y = run.output("y", shape);
                           kernel::bias_activation_forward(run.device(), {f, x, bias, y});
                           const Values shift = with_bias ? bias.to_vector() : Values{0};
                           const Values expected =
                               zip(x.to_vector(), shift,
                                   [=](double v, double b) { return naive::value(f, v + b); });
                           run.expect("y", expected, 8, 0.1);
                           run.expect_rounded("y in bf16", y, [&](Tensor& low) {
                             kernel::bias_activation_forward(run.device(), {f, x, bias, low});
                           });
                         }});
        cases.push_back(
            {"bias_activation_forward", name + " with slope", [=](Execution& run) {
               const Tensor bias = with_bias ? run.input({m.columns}) : Tensor();
               Tensor &x = run.updated("x", shape), &y = run.output("y", shape);
               const Values before = x.to_vector(),
                            shift = with_bias ? bias.to_vector() : Values{0};
               kernel::bias_activation_forward(run.device(), {f, x, bias, y, &x});
               run.expect(
                   "y",
                   zip(before, shift, [=](double v, double b) { return naive::value(f, v + b); }),
                   8, 0.1);
               run.expect("x",
                          zip(before, shift,
                              [=](double v, double b) { return naive::derivative(f, v + b); }),
                          8, 0.1);
             }});
      }
      const std::string name = fmt::format("{} {}x{}", called, m.rows, m.columns);
      const Shape shape{m.rows, m.columns};
      cases.push_back({"gated_forward", name, [=](Execution& run) {
                         const Tensor gate = run.input(shape, 2), up = run.input(shape);
                         kernel::gated_forward(run.device(), {f, gate, up, run.output("y", shape)});
                         run.expect("y",
                                    zip(gate.to_vector(), up.to_vector(),
                                        [=](double g, double u) { return naive::value(f, g) * u; }),
                                    4, 0.1);
                       }});
      cases.push_back(
          {"gated_backward", name, [=](Execution& run) {
             const Tensor gate = run.input(shape, 2), up = run.input(shape),
                          grad_y = run.input(shape);
             Tensor &grad_gate = run.output("grad_gate", shape),
                    &grad_up = run.output("grad_up", shape);
             kernel::gated_backward(run.device(), {f, gate, up, grad_y, grad_gate, grad_up});
             const Values g = gate.to_vector(), gradient = grad_y.to_vector();
             const Values scaled =
                 zip(up.to_vector(), gradient, [](double u, double d) { return u * d; });
             run.expect(
                 "grad_gate",
                 zip(g, scaled, [=](double v, double s) { return naive::derivative(f, v) * s; }), 8,
                 0.1);
             run.expect(
                 "grad_up",
                 zip(g, gradient, [=](double v, double d) { return naive::value(f, v) * d; }), 4,
                 0.1);
           }});
    }
  }
  for (Matrix m : kMatrices)
    cases.push_back(
        {"bias_activation_backward", fmt::format("{}x{}", m.rows, m.columns), [=](Execution& run) {
           const Shape shape{m.rows, m.columns};
           const Tensor slope = run.input(shape), grad_y = run.input(shape);
           Tensor& grad_x = run.output("grad_x", shape);
           kernel::bias_activation_backward(run.device(), {slope, grad_y, grad_x});
           run.expect("grad_x", zip(slope.to_vector(), grad_y.to_vector(),
                                    [](double s, double g) { return s * g; }));
           run.expect_rounded("grad_x in bf16", grad_x, [&](Tensor& low) {
             kernel::bias_activation_backward(run.device(), {slope, grad_y, low});
           });
         }});
}

void dropout(std::vector<Case>& cases) {
  for (int64_t n : kCounts) {
    for (double p : {0.0, 0.2, 0.5, 0.9}) {
      cases.push_back(
          {"dropout", fmt::format("n{} p{}", n, p), [=](Execution& run) {
             const Tensor x =
                 run.input({n}, 1,
                           5);  // away from 0, so that a wrongly kept or dropped number shows
             constexpr uint64_t kSeed = 1234567890123,
                                kOffset = 4294967290;  // the counter passes 2^32
             kernel::dropout(run.device(), {x, p, kSeed, kOffset, run.output("y", {n})});
             Values y = x.to_vector();
             for (size_t i = 0; i < y.size(); ++i)
               y[i] = naive::keep(p, kSeed, kOffset, i) ? y[i] / (1 - p) : 0;
             run.expect("y", y);
           }});
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  unary(cases);
  binary(cases);
  linear(cases);
  fused(cases);
  dropout(cases);
  return cases;
}

void refusals(Refusals& r) {
  Tensor x = f32({3, 4}), y = f32({3, 4}), wrong = f64({3, 4}), short_ = f32({3, 3}),
         bias = f32({4}), turned = f32({4, 3}).transpose(0, 1);
  Tensor undefined, integers = i32({1, 2});
  r.accepts(kernel::unary_forward, {Unary::exp, x, y});
  r.refuses(kernel::unary_forward, {Unary::exp, undefined, y}, "unary_forward: x is undefined");
  r.refuses(kernel::unary_forward, {Unary::exp, x, undefined}, "unary_forward: y is undefined");
  r.refuses(kernel::unary_forward, {Unary::exp, x, wrong},
            "unary_forward: y is f64[3, 4] cpu but x is f32[3, 4] cpu; wanted one dtype");
  r.refuses(kernel::unary_forward, {Unary::exp, x, short_}, "wanted 12 elements");
  r.refuses(kernel::unary_forward, {Unary::exp, turned, y}, "must be contiguous");
  r.refuses(kernel::unary_forward, {Unary::exp, integers, integers}, "wanted f32 or f64");
  r.refuses(kernel::unary_backward, {Unary::exp, x, short_, y}, "grad_y");
  r.accepts(kernel::binary_forward, {Binary::add, x, bias, y, 3, 1});
  r.refuses(kernel::binary_forward, {Binary::add, x, bias, y, 1, 1}, "binary_forward: b is");
  r.refuses(kernel::binary_forward, {Binary::add, x, bias, y, 0, 1}, "outer 0");
  r.refuses(kernel::binary_forward, {Binary::add, x, f32({5}), y, 2, 1}, "binary_forward");
  r.refuses(kernel::affine, {x, 1, 0, wrong}, "affine: y");
  r.refuses(kernel::accumulate, {x, 1, short_}, "accumulate: y");
  r.refuses(kernel::bias_activation_forward, {Unary::gelu, x, f32({3}), y},
            "bias_activation_forward: bias");
  r.refuses(kernel::bias_activation_forward, {Unary::gelu, x, bias, y, &short_}, "slope");
  r.refuses(kernel::bias_activation_backward, {x, y, short_}, "grad_x");
  r.refuses(kernel::gated_forward, {Unary::silu, x, short_, y}, "gated_forward: up");
  r.refuses(kernel::gated_backward, {Unary::silu, x, x, x, y, short_}, "grad_up");
  r.refuses(kernel::dropout, {x, 1.0, 1, 0, y}, "p is 1; wanted 0 <= p < 1");
  r.refuses(kernel::dropout, {x, -0.1, 1, 0, y}, "p is -0.1");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
