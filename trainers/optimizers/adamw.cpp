#include "core/rounded_copy.h"
#include "kernels/optimizer.h"
#include "trainers/optimizers/optimizer.h"

namespace reverie {
namespace {

struct AdamWOptions final : OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-8;
  void fields(Fields& f) override {
    OptimizerOptions::fields(f);
    f.number("beta1", beta1, {0, 0.9999999}, "decay of the first moment");
    f.number("beta2", beta2, {0, 0.9999999}, "decay of the second moment");
    f.number("eps", eps, {0, 1}, "added to the square root of the second moment");
  }
};

// AdamW (Loshchilov & Hutter 2019): one pass over each bucket. Matrices decay, vectors do not.
class AdamWOptimizer final : public Optimizer {
 public:
  AdamWOptimizer(const AdamWOptions& o, FlatParameters& parameters)
      : Optimizer(o, parameters),
        o_(o),
        moments_{{parameters.matrices(), keep(parameters.matrices(), "m."),
                  keep(parameters.matrices(), "v."), o.weight_decay},
                 {parameters.vectors(), keep(parameters.vectors(), "m."),
                  keep(parameters.vectors(), "v."), 0.0}} {}

 private:
  struct Moments {
    FlatParameters::Bucket& bucket;
    FlatState &first, &second;
    double weight_decay;
  };
  void update(double rate, double gradient_scale) override {
    for (Moments& at : moments_) {
      if (at.bucket.members.empty()) continue;
      Tensor values = parameters_.own_share(at.bucket, at.bucket.values), first = at.first.flat(),
             second = at.second.flat();
      const Tensor gradients = parameters_.own_share(at.bucket, at.bucket.gradients);
      Tensor rounded;
      if (at.bucket.rounded) rounded = parameters_.own_share(at.bucket, at.bucket.rounded);
      if (values.numel() > 0)
        kernel::adamw(values.device(),
                      {values, gradients, first, second, rate, o_.beta1, o_.beta2, o_.eps,
                       at.weight_decay, steps_, gradient_scale, rounded ? &rounded : nullptr});
      if (rounded) keep_rounded_copy(values, rounded);
      parameters_.exchange_values(at.bucket);
    }
  }

  AdamWOptions o_;
  std::vector<Moments> moments_;
};

const bool adamw_optimizer_registered =
    OptimizerRegistry::instance().add<AdamWOptimizer, AdamWOptions>(
        "adamw", "Adam with decoupled weight decay");

}  // namespace
}  // namespace reverie
