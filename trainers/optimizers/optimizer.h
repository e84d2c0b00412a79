#pragma once
/// Optimizers: registered components, one file each, over flat parameters that belong to none.

#include <memory>
#include <vector>

#include "trainers/optimizers/flat_parameters.h"
#include "trainers/optimizers/schedule.h"

namespace reverie {

/// Options of every optimizer.
struct OptimizerOptions : Fieldset {
  double learning_rate = 1e-3, weight_decay = 0.1, gradient_clip = 1.0;
  Component schedule = {"cosine", nullptr, "$"};
  /// Names these fields; an optimizer's own stand behind them.
  void fields(Fields&) override;
};

class Optimizer {
 public:
  Optimizer(const OptimizerOptions&, FlatParameters&);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// The learning rate of step `step` (0: the first) of a run of `total`.
  double learning_rate(int64_t step, int64_t total) const;
  /// One update with learning rate `rate`. Gradients, whose global norm is given, are scaled so that
  /// it is at most gradient_clip (0: no clipping).
  void step(double rate, double gradient_norm);
  int64_t steps() const { return steps_; }

  /// Bytes that this rank keeps between steps.
  size_t state_bytes() const;
  /// Tensors that resuming needs besides steps(), by name; complete on the first rank, others get
  /// nothing. A collective, where parameters are sharded.
  NamedTensors state() const;
  /// UserError where tensors are missing, too many, or of another shape.
  void load(const NamedTensors&, int64_t steps);

 protected:
  /// Updates this rank's share of all buckets: gradients count times `gradient_scale`. `steps_`
  /// counts this update already.
  virtual void update(double rate, double gradient_scale) = 0;
  /// States are saved in the order in which they are kept, those of one bucket side by side.
  FlatState& keep(FlatParameters::Bucket&, const std::string& prefix,
                  std::vector<const FlatParameters::Member*> members);
  FlatState& keep(FlatParameters::Bucket&, const std::string& prefix);

  FlatParameters& parameters_;
  int64_t steps_ = 0;

 private:
  double learning_rate_, gradient_clip_;
  std::unique_ptr<Schedule> schedule_;
  std::vector<std::unique_ptr<FlatState>> states_;
};

/// The learning rates of a resolved optimizer's config, without its parameters.
struct RatePlan {
  double highest;
  std::unique_ptr<Schedule> schedule;
};
RatePlan rate_plan(const Component& optimizer);

using OptimizerRegistry = Registry<Optimizer, FlatParameters&>;
template <>
OptimizerRegistry& OptimizerRegistry::instance();

}  // namespace reverie
