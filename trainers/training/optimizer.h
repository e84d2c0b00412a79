#pragma once
// AdamW over flat buckets, with decay groups and the global gradient norm.

#include <string>
#include <vector>

#include "core/config.h"
#include "layers/module.h"
#include "trainers/distributed/communicator.h"

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

// Gradients that lie side by side, and whose they are.
struct FlatGradients {
  struct Part {
    Variable variable;
    int64_t offset = 0;  // in elements
    int64_t order = 0;  // of construction, over all parameters: the last one's gradient comes first
  };
  Tensor gradients;
  std::vector<Part> parts;  // by offset
};

// Parameters and gradients of a module live in two flat buckets: those with weight decay (rank >=
// 2) and those without. After construction the module's Variables are views into them. Frozen
// parameters stay where they are.
//
// With `shard` (ZeRO-1: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
// Parameter Models", 2020) each rank keeps the moments of its share of every bucket, updates that
// share and gets the others' parameters from their ranks; step(), state() are then collectives. The
// update is element by element, so that the results are those without.
class AdamWOptimizer {
 public:
  AdamWOptimizer(Module& module, const OptimizerOptions& options,
                 Communicator& communicator = single_communicator(), bool shard = false);
  void clear_gradients();
  std::vector<FlatGradients> flat_gradients() const;
  // Global L2 norm over all gradients, in double.
  double gradient_norm();
  // One update with learning rate `rate`; gradients are scaled so that their norm is at most
  // gradient_clip (0: no clipping).
  void step(double rate, double gradient_norm);
  // Whether every parameter is a finite number.
  bool parameters_finite() const;
  int64_t steps() const { return steps_; }

  // Bytes of moments that this rank keeps.
  size_t moment_bytes() const;

  // Moments by parameter name ("m.NAME", "v.NAME"); with `steps` all that resuming needs. Complete
  // on the first rank, whatever the sharding; others get nothing.
  NamedTensors state() const;
  void load(const NamedTensors&, int64_t steps);

 private:
  struct Member {
    std::string name;
    Variable variable;
    int64_t offset, order;
  };
  struct Bucket {
    std::vector<Member> members;
    Tensor parameters, gradients;
    Tensor m, v;                 // of this rank's share
    std::vector<int64_t> begin;  // of every rank's share; the last entry is the end
    double weight_decay = 0;
  };
  // The elements of `flat` that this rank updates.
  Tensor share_of(const Bucket&, const Tensor& flat) const;
  // Both moments of a bucket, whole, on the first rank.
  Tensor gathered(const Bucket&, const Tensor& moment) const;
  void name_moments(const Bucket&, const std::string& prefix, const Tensor& moment,
                    NamedTensors& out) const;

  OptimizerOptions options_;
  Communicator& communicator_;
  bool sharded_;
  std::vector<Bucket> buckets_;
  int64_t steps_ = 0;
};

}  // namespace reverie
