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

std::vector<Variable> evaluate(const MultiFunction& function, const std::vector<Tensor>& at) {
  NoGrad guard;
  std::vector<Variable> v;
  for (const Tensor& t : at) v.emplace_back(t);
  return function(v);
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

// All of 0 .. count - 1, or so many of them, drawn.
std::vector<int64_t> chosen_places(int64_t count, int64_t most, Generator& random) {
  std::vector<int64_t> places(static_cast<size_t>(count));
  for (int64_t j = 0; j < count; ++j) places[size_t(j)] = j;
  if (count <= most) return places;
  for (int64_t j = 0; j < most; ++j)
    std::swap(places[size_t(j)], places[size_t(j) + random.below(uint64_t(count - j))]);
  places.resize(size_t(most));
  return places;
}

// Central difference of the outputs' inner product with the cotangents.
double central_difference(const MultiFunction& function, const std::vector<Tensor>& inputs,
                          const std::vector<Tensor>& cotangents, size_t input, int64_t element,
                          double step) {
  auto shifted = inputs;
  double value[2];
  double h = 0;
  for (int side = 0; side < 2; ++side) {
    shifted[input] = inputs[input].clone();
    double& x = shifted[input].mutable_data<double>()[element];
    h = step * std::max(1.0, std::abs(x));
    x += side ? -h : h;
    value[side] = inner_product(evaluate(function, shifted), cotangents);
  }
  return (value[0] - value[1]) / (2 * h);
}

// Compares elements of an input's gradient with central differences.
void compare(GradcheckResult& result, size_t input, const double* gradient,
             const std::vector<int64_t>& places, const std::vector<double>& numeric,
             double tolerance) {
  double largest = 1;
  for (double v : numeric) largest = std::max(largest, std::abs(v));
  for (size_t j = 0; j < places.size(); ++j) {
    const double error = std::abs(gradient[places[j]] - numeric[j]) / largest;
    if (!(error <= result.worst)) result.worst = error;
    if (!(error <= tolerance) && result.ok) {
      result.ok = false;
      result.message =
          fmt::format("input {} element {}: backward gives {:.12g}, central difference {:.12g}",
                      input, places[j], gradient[places[j]], numeric[j]);
    }
  }
}

}  // namespace

GradcheckResult gradcheck(const MultiFunction& function, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options) {
  for (const Tensor& t : inputs)
    require(t.dtype() == DType::f64, "gradcheck wants f64 inputs, got {}", t);
  GradcheckResult result;
  Generator random(options.seed);
  std::vector<Tensor> cotangents;
  for (const Variable& y : evaluate(function, inputs))
    cotangents.push_back(random.normal(y.shape(), 0, 1, DType::f64));
  const auto grads = analytic(function, inputs, cotangents, -1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto places = chosen_places(inputs[i].numel(), options.max_elements, random);
    std::vector<double> numeric;
    for (const int64_t j : places)
      numeric.push_back(central_difference(function, inputs, cotangents, i, j, options.step));
    compare(result, i, grads[i].data<double>(), places, numeric, options.tolerance);
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
