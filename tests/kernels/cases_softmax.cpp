#include <cmath>

#include "kernels/case.h"
#include "kernels/refusals.h"
#include "kernels/softmax.h"

namespace reverie::test {
namespace {

struct Matrix {
  int64_t rows, columns;
};
constexpr Matrix kMatrices[] = {{1, 1},   {3, 7},    {7, 3},     {17, 33},  {1, 65},
                                {100, 1}, {65, 100}, {3000, 11}, {301, 129}};

Values softmax(const Values& x, double scale, const std::vector<int32_t>& valid, int64_t width) {
  Values y(x.size());
  for (size_t row = 0; row < x.size() / size_t(width); ++row) {
    const size_t at = row * size_t(width);
    const auto count =
        size_t(std::min<int64_t>(width, valid.empty() ? width : std::max(0, valid[row])));
    double top = -INFINITY, total = 0;
    for (size_t i = 0; i < count; ++i) top = std::max(top, scale * x[at + i]);
    for (size_t i = 0; i < count; ++i) total += std::exp(scale * x[at + i] - top);
    for (size_t i = 0; i < count; ++i) y[at + i] = std::exp(scale * x[at + i] - top) / total;
  }
  return y;
}

// -1, every class in turn, and the last class.
std::vector<int32_t> targets_for(Matrix m) {
  std::vector<int32_t> targets;
  for (int64_t row = 0; row < m.rows; ++row)
    targets.push_back(row % 5 == 3   ? -1
                      : row % 7 == 6 ? int32_t(m.columns - 1)
                                     : int32_t(row % m.columns));
  return targets;
}

void softmax_cases(std::vector<Case>& cases, Matrix m) {
  const Shape shape{m.rows, m.columns};
  const std::string name = fmt::format("{}x{}", m.rows, m.columns);
  for (double scale : {1.0, 0.25, -2.0}) {
    cases.push_back(
        {"softmax_forward", fmt::format("{} scale {}", name, scale), [=](Execution& run) {
           const Tensor x = run.input(shape, 4, 100);
           kernel::softmax_forward(run.device(), {x, scale, Tensor(), run.output("y", shape)});
           run.expect("y", softmax(x.to_vector(), scale, {}, m.columns), 4);
         }});
  }
  // The product of scale and the largest has a rounding error of 100 and more.
  cases.push_back(
      {"softmax_forward", name + " huge", [=](Execution& run) {
         Values values;
         for (int64_t i = 0; i < m.rows * m.columns; ++i)
           values.push_back(1e10 * std::sin(double(i)));
         const Tensor x = run.input(shape, values);
         kernel::softmax_forward(run.device(), {x, 0.3, Tensor(), run.output("y", shape)});
         run.expect("y", softmax(x.to_vector(), 0.3, {}, m.columns), 4);
       }});
  cases.push_back(
      {"softmax_forward", name + " masked", [=](Execution& run) {
         const Tensor x = run.input(shape, 2);
         std::vector<int32_t> valid;
         for (int64_t row = 0; row < m.rows; ++row)
           valid.push_back(int32_t(row % (m.columns + 3)) - 1);  // -1 and more than all, too
         const Tensor counts = run.indices(valid);
         kernel::softmax_forward(run.device(), {x, 0.5, counts, run.output("y", shape)});
         run.expect("y", softmax(x.to_vector(), 0.5, valid, m.columns), 4);
       }});
  cases.push_back({"softmax_forward", name + " in place", [=](Execution& run) {
                     Tensor& x = run.updated("x", shape);
                     const Values before = x.to_vector();
                     kernel::softmax_forward(run.device(), {x, 1, Tensor(), x});
                     run.expect("x", softmax(before, 1, {}, m.columns), 4);
                   }});
  for (bool in_place : {false, true}) {
    cases.push_back(
        {"softmax_backward", name + (in_place ? " over its gradient" : ""), [=](Execution& run) {
           const Values raw = run.generator().normal(shape, 0, 1, DType::f64).to_vector();
           const Tensor y = run.input(shape, softmax(raw, 1, {}, m.columns));
           Tensor& grad_x = in_place ? run.updated("grad_x", shape) : run.output("grad_x", shape);
           const Tensor grad_y = in_place ? grad_x : run.input(shape);
           const Values p = y.to_vector(), g = grad_y.to_vector();
           kernel::softmax_backward(run.device(), {y, grad_y, 0.5, grad_x});
           Values out(p.size());
           for (int64_t row = 0; row < m.rows; ++row) {
             double dot = 0;
             for (int64_t i = 0; i < m.columns; ++i)
               dot += p[size_t(row * m.columns + i)] * g[size_t(row * m.columns + i)];
             for (int64_t i = 0; i < m.columns; ++i) {
               const auto at = size_t(row * m.columns + i);
               out[at] = 0.5 * p[at] * (g[at] - dot);
             }
           }
           run.expect("grad_x", out, 4);
         }});
  }
}

void loss_cases(std::vector<Case>& cases, Matrix m) {
  const Shape shape{m.rows, m.columns};
  const std::string name = fmt::format("{}x{}", m.rows, m.columns);
  const std::vector<int32_t> target = targets_for(m);
  const auto log_sums = [=](const Values& x) {
    Values sums;
    for (int64_t row = 0; row < m.rows; ++row) {
      double total = 0;
      for (int64_t i = 0; i < m.columns; ++i) total += std::exp(x[size_t(row * m.columns + i)]);
      sums.push_back(std::log(total));
    }
    return sums;
  };
  cases.push_back(
      {"cross_entropy_forward", name, [=](Execution& run) {
         const Tensor logits = run.input(shape, 3), targets = run.indices(target);
         Tensor &loss = run.output("loss", {m.rows}),
                &log_sum_exp = run.output("log_sum_exp", {m.rows});
         kernel::cross_entropy_forward(run.device(), {logits, targets, loss, log_sum_exp});
         const Values x = logits.to_vector(), sums = log_sums(x);
         Values losses;
         for (int64_t row = 0; row < m.rows; ++row) {
           const int32_t t = target[size_t(row)];
           losses.push_back(t < 0 ? 0 : sums[size_t(row)] - x[size_t(row * m.columns + t)]);
         }
         run.expect("loss", losses, 4, 0.1);
         run.expect("log_sum_exp", sums, 4, 0.1);
       }});
  for (bool in_place : {false, true}) {
    cases.push_back(
        {"cross_entropy_backward", name + (in_place ? " over its logits" : ""),
         [=](Execution& run) {
           Tensor& grad_logits =
               in_place ? run.updated("grad_logits", shape) : run.output("grad_logits", shape);
           const Tensor logits = in_place ? grad_logits : run.input(shape, 3);
           const Values x = logits.to_vector(), sums = log_sums(x);
           const Tensor targets = run.indices(target), log_sum_exp = run.input({m.rows}, sums),
                        grad_loss = run.input({m.rows});
           const Values rounded = log_sum_exp.to_vector(), gradient = grad_loss.to_vector();
           kernel::cross_entropy_backward(run.device(),
                                          {logits, targets, log_sum_exp, grad_loss, grad_logits});
           Values out(x.size());
           for (int64_t row = 0; row < m.rows; ++row)
             for (int64_t i = 0; i < m.columns && target[size_t(row)] >= 0; ++i) {
               const auto at = size_t(row * m.columns + i);
               out[at] =
                   (std::exp(x[at] - rounded[size_t(row)]) - (i == target[size_t(row)] ? 1 : 0)) *
                   gradient[size_t(row)];
             }
           run.expect("grad_logits", out, 8, 0.01);
         }});
  }
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (Matrix m : kMatrices) {
    softmax_cases(cases, m);
    loss_cases(cases, m);
  }
  loss_cases(cases, {3, 50257});
  return cases;
}

void refusals(Refusals& r) {
  Tensor x = f32({2, 3}), y = f32({2, 3}), loss = f32({2}), sums = f32({2}), none_,
         narrow = f32({3});
  r.refuses(kernel::softmax_forward, {x, 1, i32({1, 2, 3}), y}, "valid");
  r.refuses(kernel::softmax_forward, {x, 1, f32({2}), y}, "wanted i32");
  r.refuses(kernel::softmax_backward, {x, narrow, 1, y}, "grad_y");
  r.accepts(kernel::cross_entropy_forward, {x, i32({-1, 2}), loss, sums});
  r.refuses(kernel::cross_entropy_forward, {x, i32({0, 3}), loss, sums},
            "targets[1] is 3; wanted -1 <= index < 3");
  r.refuses(kernel::cross_entropy_forward, {x, i32({-2, 0}), loss, sums}, "targets[0] is -2");
  r.refuses(kernel::cross_entropy_backward, {x, i32({0, 0}), sums, narrow, y}, "grad_loss");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
