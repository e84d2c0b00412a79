#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

double inner_product(const std::vector<Variable>& outputs, const std::vector<Tensor>& cotangents) {
  double total = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto a = outputs[i].tensor().to_vector(), b = cotangents[i].to_vector();
    for (size_t j = 0; j < a.size(); ++j) total += a[j] * b[j];
  }
  return total;
}

std::vector<Tensor> analytic(const MultiFunction& f, const std::vector<Tensor>& inputs,
                             const std::vector<Tensor>& cotangents, int only) {
  std::vector<Variable> v;
  for (size_t i = 0; i < inputs.size(); ++i)
    v.emplace_back(inputs[i].clone(), only < 0 || int(i) == only);
  const auto outputs = f(v);
  backward(outputs, cotangents);
  std::vector<Tensor> grads;
  for (const Variable& x : v)
    grads.push_back(x.grad().defined() ? x.grad() : Tensor::zeros(x.shape(), x.dtype()));
  return grads;
}

}  // namespace

GradcheckResult gradcheck(const MultiFunction& function, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options) {
  for (const Tensor& t : inputs)
    require(t.dtype() == DType::f64, "gradcheck wants f64 inputs, got {}", t);
  GradcheckResult result;
  Generator random(options.seed);
  auto evaluate = [&](const std::vector<Tensor>& at) {
    NoGrad guard;
    std::vector<Variable> v;
    for (const Tensor& t : at) v.emplace_back(t);
    return function(v);
  };
  std::vector<Tensor> cotangents;
  for (const Variable& y : evaluate(inputs))
    cotangents.push_back(random.normal(y.shape(), 0, 1, DType::f64));
  const auto grads = analytic(function, inputs, cotangents, -1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t n = inputs[i].numel();
    std::vector<int64_t> places(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) places[size_t(j)] = j;
    if (n > options.max_elements) {
      for (int64_t j = 0; j < options.max_elements; ++j)
        std::swap(places[size_t(j)], places[size_t(j) + random.below(uint64_t(n - j))]);
      places.resize(size_t(options.max_elements));
    }
    std::vector<double> numeric;
    for (int64_t j : places) {
      auto shifted = inputs;
      double value[2];
      double h = 0;
      for (int side = 0; side < 2; ++side) {
        shifted[i] = inputs[i].clone();
        double& x = shifted[i].mutable_data<double>()[j];
        h = options.step * std::max(1.0, std::abs(x));
        x += side ? -h : h;
        value[side] = inner_product(evaluate(shifted), cotangents);
      }
      numeric.push_back((value[0] - value[1]) / (2 * h));
    }
    double largest = 1;
    for (double v : numeric) largest = std::max(largest, std::abs(v));
    const double* g = grads[i].data<double>();
    for (size_t j = 0; j < places.size(); ++j) {
      const double error = std::abs(g[places[j]] - numeric[j]) / largest;
      if (!(error <= result.worst)) result.worst = error;
      if (!(error <= options.tolerance) && result.ok) {
        result.ok = false;
        result.message =
            fmt::format("input {} element {}: backward gives {:.12g}, central difference {:.12g}",
                        i, places[j], g[places[j]], numeric[j]);
      }
    }
    if (options.subsets && inputs.size() > 1) {
      const auto alone = analytic(function, inputs, cotangents, int(i));
      if (!bit_identical(alone[i], grads[i]) && result.ok) {
        result.ok = false;
        result.message =
            fmt::format("input {} alone gives another gradient than together with the others", i);
      }
    }
  }
  return result;
}

}  // namespace reverie
