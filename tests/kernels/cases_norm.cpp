#include "kernels/case.h"
#include "kernels/naive.h"
#include "kernels/norm.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Matrix {
  int64_t rows, columns;
};
constexpr Matrix kMatrices[] = {{1, 3},  {3, 7},    {7, 17},   {17, 33},
                                {1, 65}, {65, 100}, {701, 65}, {2, 1000}};
struct Parts {
  bool residual, weight, bias;
};

Values sum_of(const Values& a, const Values& b) {
  Values total = a;
  for (size_t i = 0; i < b.size(); ++i) total[i] += b[i];
  return total;
}

void forward(std::vector<Case>& cases, Norm kind, Matrix m, Parts parts, const std::string& name) {
  cases.push_back({"norm_forward", name, [=](Execution& run) {
                     const Shape shape{m.rows, m.columns}, row{m.columns};
                     const Tensor x = run.input(shape, 2, 1),
                                  residual = parts.residual ? run.input(shape) : Tensor();
                     const Tensor weight = parts.weight ? run.input(row) : Tensor(),
                                  bias = parts.bias ? run.input(row) : Tensor();
                     Tensor none;
                     Tensor &sum = parts.residual ? run.output("sum", shape) : none,
                            &y = run.output("y", shape);
                     Tensor &mean = kind == Norm::layer ? run.output("mean", {m.rows}) : none,
                            &rstd = run.output("rstd", {m.rows});
                     kernel::norm_forward(
                         run.device(), {kind, x, residual, weight, bias, 1e-3, sum, y, mean, rstd});
                     Values in = x.to_vector();
                     if (parts.residual) {
                       in = sum_of(in, residual.to_vector());
                       run.expect("sum", in);
                     }
                     const auto r =
                         naive::norm(kind, in, parts.weight ? weight.to_vector() : Values(),
                                     parts.bias ? bias.to_vector() : Values(), 1e-3, m.columns);
                     run.expect("y", r.y, 4);
                     run.expect_rounded("y in bf16", y, [&](Tensor& low) {
                       kernel::norm_forward(run.device(), {kind, x, residual, weight, bias, 1e-3,
                                                           sum, low, mean, rstd});
                     });
                     run.expect("rstd", r.rstd, 4);
                     if (kind == Norm::layer) run.expect("mean", r.mean, 4);
                   }});
}

void backward(std::vector<Case>& cases, Norm kind, Matrix m, Parts parts, bool with_sum,
              bool wants_x, const std::string& name) {
  cases.push_back(
      {"norm_backward", name, [=](Execution& run) {
         const Shape shape{m.rows, m.columns}, row{m.columns};
         const Tensor x = run.input(shape, 2, 1), weight = parts.weight ? run.input(row) : Tensor();
         const Values in = x.to_vector();
         const auto statistics = naive::norm(kind, in, {}, {}, 1e-3, m.columns);
         const Tensor mean = kind == Norm::layer ? run.input({m.rows}, statistics.mean) : Tensor();
         const Tensor rstd = run.input({m.rows}, statistics.rstd), grad_y = run.input(shape),
                      grad_sum = with_sum ? run.input(shape) : Tensor();
         Tensor none;
         Tensor& grad_x = wants_x ? run.output("grad_x", shape) : none;
         Tensor& grad_weight = parts.weight ? run.output("grad_weight", row) : none;
         Tensor& grad_bias = parts.bias ? run.output("grad_bias", row) : none;
         kernel::norm_backward(run.device(), {kind, x, weight, mean, rstd, grad_y, grad_sum, grad_x,
                                              grad_weight, grad_bias});
         const auto g =
             naive::norm_gradients(kind, in, parts.weight ? weight.to_vector() : Values(),
                                   kind == Norm::layer ? mean.to_vector() : Values(),
                                   rstd.to_vector(), grad_y.to_vector(), m.columns);
         if (wants_x) run.expect("grad_x", with_sum ? sum_of(g.x, grad_sum.to_vector()) : g.x, 8);
         if (parts.weight) run.expect("grad_weight", g.weight, 8);
         if (parts.bias) run.expect("grad_bias", g.bias, 8);
       }});
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (Norm kind : {Norm::layer, Norm::rms})
    for (Matrix m : kMatrices)
      for (Parts p : {Parts{false, true, true},
                      {true, true, true},
                      {false, true, false},
                      {true, false, false},
                      {false, false, true}}) {
        const std::string name = fmt::format(
            "{} {}x{}{}{}{}", kind == Norm::layer ? "layer" : "rms", m.rows, m.columns,
            p.residual ? " residual" : "", p.weight ? " weight" : "", p.bias ? " bias" : "");
        forward(cases, kind, m, p, name);
        backward(cases, kind, m, p, p.residual, true, name);
        if (p.weight) backward(cases, kind, m, p, false, false, name + " without grad_x");
      }
  return cases;
}

void refusals(Refusals& r) {
  Tensor x = f32({2, 3}), w = f32({3}), y = f32({2, 3}), rows = f32({2}), sum = f32({2, 3}),
         undefined;
  r.accepts(kernel::norm_forward,
            {Norm::rms, x, undefined, w, undefined, 1e-5, undefined, y, undefined, rows});
  r.refuses(kernel::norm_forward,
            {Norm::layer, x, undefined, w, undefined, 1e-5, undefined, y, undefined, rows},
            "mean is undefined");
  r.refuses(kernel::norm_forward,
            {Norm::rms, x, x, w, undefined, 1e-5, undefined, y, undefined, rows},
            "sum is undefined");
  r.refuses(kernel::norm_forward,
            {Norm::rms, x, undefined, rows, undefined, 1e-5, undefined, y, undefined, rows},
            "weight");
  r.refuses(kernel::norm_backward,
            {Norm::rms, x, w, undefined, rows, x, undefined, y, rows, undefined}, "grad_weight");
  r.accepts(kernel::norm_backward,
            {Norm::rms, x, w, undefined, rows, x, undefined, undefined, w, undefined});
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
