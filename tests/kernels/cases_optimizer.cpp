#include <cmath>

#include "kernels/case.h"
#include "kernels/optimizer.h"
#include "kernels/refusals.h"

namespace reverie::test {

namespace {

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (int64_t n : {1, 3, 7, 17, 33, 65, 100, 20001}) {
    for (int64_t step : {1, 2, 1000}) {
      cases.push_back(
          {"adamw", fmt::format("n{} step {}", n, step), [=](Execution& run) {
             const double lr = 0.01, beta1 = 0.9, beta2 = 0.99, eps = 1e-8, decay = 0.1,
                          grad_scale = 0.7;
             const Tensor grad = run.input({n});
             Tensor &parameter = run.updated("parameter", {n}), &m = run.updated("m", {n}),
                    &v = run.updated("v", {n});
             Values squares = v.to_vector();
             for (double& s : squares) s = 0.1 + s * s;  // a mean of squares is not negative
             v.copy_from(Tensor::from<double>({n}, squares));
             Values p = parameter.to_vector(), first = m.to_vector(), second = v.to_vector();
             const Values g = grad.to_vector();
             Tensor again = parameter.clone(), m_again = m.clone(), v_again = v.clone();
             kernel::adamw(run.device(),
                           {parameter, grad, m, v, lr, beta1, beta2, eps, decay, step, grad_scale});
             if (run.dtype() == DType::f32)
               run.expect_rounded("rounded", parameter, [&](Tensor& rounded) {
                 kernel::adamw(run.device(), {again, grad, m_again, v_again, lr, beta1, beta2, eps,
                                              decay, step, grad_scale, &rounded});
               });
             for (size_t i = 0; i < p.size(); ++i) {
               const double scaled = g[i] * grad_scale;
               first[i] = beta1 * first[i] + (1 - beta1) * scaled;
               second[i] = beta2 * second[i] + (1 - beta2) * scaled * scaled;
               const double m_hat = first[i] / (1 - std::pow(beta1, double(step))),
                            v_hat = second[i] / (1 - std::pow(beta2, double(step)));
               p[i] -= lr * (m_hat / (std::sqrt(v_hat) + eps) + decay * p[i]);
             }
             run.expect("parameter", p);
             run.expect("m", first);
             run.expect("v", second);
           }});
    }
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor p = f32({4}), short_ = f32({3}), low = Tensor::zeros({3}, DType::bf16);
  r.refuses(kernel::adamw, {p, p, p, short_, 1, 0.9, 0.9, 1e-8, 0, 1, 1}, "adamw: v");
  r.refuses(kernel::adamw, {p, p, p, p, 1, 0.9, 0.9, 1e-8, 0, 0, 1}, "step 0");
  for (Tensor* rounded : {&short_, &low})
    r.refuses(kernel::adamw, {p, p, p, p, 1, 0.9, 0.9, 1e-8, 0, 1, 1, rounded},
              "adamw: rounded is");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
