#pragma once
// AdamW over flat buckets, with decay groups and the global gradient norm.

#include <string>
#include <vector>

#include "core/config.h"
#include "layers/module.h"

namespace reverie {

struct OptimizerOptions final : Fieldset {
  double learning_rate = 1e-3, minimum_learning_rate = 1e-4;
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-8, weight_decay = 0.1, gradient_clip = 1.0;
  int64_t warmup_steps = 100;
  std::optional<int64_t> decay_steps;  // auto: the run's steps
  void fields(Fields&) override;
};

// Linear warmup, then a cosine from learning_rate to minimum_learning_rate at decay_steps, then
// constant (nanoGPT's form).
double learning_rate_at(const OptimizerOptions&, int64_t step, int64_t total_steps);

// Parameters and gradients of a module live in two flat buckets: those with weight decay (rank >=
// 2) and those without. After construction the module's Variables are views into them. Frozen
// parameters stay where they are.
class AdamWOptimizer {
 public:
  AdamWOptimizer(Module& module, const OptimizerOptions& options);
  void clear_gradients();
  // Global L2 norm over all gradients, in double.
  double gradient_norm();
  // One update with learning rate `rate`; gradients are scaled so that their norm is at most
  // gradient_clip (0: no clipping).
  void step(double rate, double gradient_norm);
  // Whether every parameter is a finite number.
  bool parameters_finite() const;
  int64_t steps() const { return steps_; }

  // Moments by parameter name ("m.NAME", "v.NAME"); with `steps` all that resuming needs.
  NamedTensors state() const;
  void load(const NamedTensors&, int64_t steps);

 private:
  struct Member {
    std::string name;
    Variable variable;
    int64_t offset;
  };
  struct Bucket {
    std::vector<Member> members;
    Tensor parameters, gradients, m, v;
    double weight_decay = 0;
  };
  OptimizerOptions options_;
  std::vector<Bucket> buckets_;
  int64_t steps_ = 0;
};

}  // namespace reverie
