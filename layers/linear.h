#pragma once
// Linear and normalisation layers.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "layers/module.h"

namespace reverie {

struct LinearOptions {
  bool bias = true;
  WeightLayout layout = WeightLayout::out_in;
  double stddev = 0.02;  // of the initial weights, normal around 0; biases start at 0 (GPT-2)
};

class Linear final : public Module {
 public:
  Linear(int64_t in, int64_t out, const LinearOptions& options, const Build& build);
  Variable forward(const Variable& x) const { return linear(x, weight_, bias_, layout_); }
  // f(forward(x)) with the bias and the activation in one pass.
  Variable forward(const Variable& x, Unary f, Use use = Use::any) const {
    return linear_activation(f, x, weight_, bias_, layout_, use);
  }
  const Variable& weight() const { return weight_; }

 private:
  Variable weight_, bias_;
  WeightLayout layout_;
};

class NormLayer final : public Module {
 public:
  NormLayer(Norm kind, int64_t features, bool bias, double eps, const Build& build);
  // `use`: of the normed values (autograd/precision.h).
  Variable forward(const Variable& x, Use use = Use::any) const;
  ResidualNorm forward(const Variable& x, const Variable& residual, Use use = Use::any) const {
    return residual_norm(kind_, x, residual, weight_, bias_, eps_, use);
  }

 private:
  Norm kind_;
  double eps_;
  Variable weight_, bias_;
};

}  // namespace reverie
