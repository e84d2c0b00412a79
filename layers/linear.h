#pragma once
/// Linear and normalisation layers.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "layers/module.h"

namespace reverie {

struct LinearOptions {
  bool bias = true;
  WeightLayout layout = WeightLayout::out_in;
  double stddev = 0.02;  ///< of the initial weights, normal around 0; biases start at 0 (GPT-2)
};

class Linear final : public Module {
 public:
  Linear(int64_t in, int64_t out, const LinearOptions& options, const Build& build);
  Variable forward(const Variable& x) const;
  /// f(forward(x)) with the bias and the activation in one pass.
  Variable forward(const Variable& x, Unary f, ReadBy read_by = ReadBy::any) const;
  const Variable& weight() const { return weight_; }
  /// From now on forward(x) is x W (+ bias) + scale * (x A^T) B^T with two more parameters: lora_a,
  /// A [rank, in], normal of variance 1 / in, and lora_b, B [out, rank], zero, so that nothing
  /// changes before they are trained (LoRA, Hu et al. 2021, arXiv 2106.09685). The weight is left as
  /// it is, trainable or frozen. Once only.
  void add_low_rank_update(int64_t rank, double scale, const Build& build);

 private:
  Variable weight_, bias_;
  Variable low_rank_a_, low_rank_b_;  ///< undefined: no update
  double low_rank_scale_ = 0;
  WeightLayout layout_;
};

/// The same for every linear layer below `module`, with scale alpha / rank. Beside a frozen model:
/// build a BlockStack of its shape, borrow() its weights, and only these matrices are the stack's
/// own.
void add_low_rank_updates(Module& module, int64_t rank, double alpha, const Build& build);

class NormLayer final : public Module {
 public:
  NormLayer(Norm kind, int64_t features, bool bias, double eps, const Build& build);
  /// `read_by`: what reads the normed values (autograd/precision.h).
  Variable forward(const Variable& x, ReadBy read_by = ReadBy::any) const;
  ResidualNorm forward(const Variable& x, const Variable& residual,
                       ReadBy read_by = ReadBy::any) const {
    return residual_norm(kind_, x, residual, weight_, bias_, eps_, read_by);
  }

 private:
  Norm kind_;
  double eps_;
  Variable weight_, bias_;
};

}  // namespace reverie
