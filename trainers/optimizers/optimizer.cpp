#include "trainers/optimizers/optimizer.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {

template <>
OptimizerRegistry& OptimizerRegistry::instance() {
  static OptimizerRegistry registry("optimizer");
  return registry;
}

void OptimizerOptions::fields(Fields& f) {
  f.number("learning_rate", learning_rate, {0, 10}, "highest learning rate, reached after warmup");
  f.component("schedule", schedule, ScheduleRegistry::instance(), false,
              "the learning rate over the steps");
  f.number("weight_decay", weight_decay, {0, 10},
           "decoupled decay of tensors with two or more dimensions");
  f.number("gradient_clip", gradient_clip, {0, 1e9},
           "largest global gradient norm; 0: no clipping");
}

Optimizer::Optimizer(const OptimizerOptions& o, FlatParameters& parameters)
    : parameters_(parameters),
      learning_rate_(o.learning_rate),
      gradient_clip_(o.gradient_clip),
      schedule_(ScheduleRegistry::instance().make(o.schedule)) {}

RatePlan rate_plan(const Component& optimizer) {
  const auto& options = component_options<OptimizerOptions>(optimizer);
  return {options.learning_rate, ScheduleRegistry::instance().make(options.schedule)};
}

double Optimizer::learning_rate(int64_t step, int64_t total) const {
  return schedule_->rate(learning_rate_, step, total);
}

void Optimizer::step(double rate, double gradient_norm) {
  ++steps_;
  // The 1e-6 is PyTorch's clip_grad_norm_.
  update(rate, gradient_clip_ > 0 ? std::min(1.0, gradient_clip_ / (gradient_norm + 1e-6)) : 1.0);
}

FlatState& Optimizer::keep(FlatParameters::Bucket& bucket, const std::string& prefix,
                           std::vector<const FlatParameters::Member*> members) {
  states_.push_back(std::make_unique<FlatState>(parameters_, bucket, prefix, std::move(members)));
  return *states_.back();
}
FlatState& Optimizer::keep(FlatParameters::Bucket& bucket, const std::string& prefix) {
  states_.push_back(std::make_unique<FlatState>(parameters_, bucket, prefix));
  return *states_.back();
}

size_t Optimizer::state_bytes() const {
  size_t bytes = 0;
  for (const auto& s : states_) bytes += s->bytes();
  return bytes;
}

NamedTensors Optimizer::state() const {
  NamedTensors out;
  for (const auto& s : states_) s->append_to(out);
  return out;
}

void Optimizer::load(const NamedTensors& tensors, int64_t steps) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [name, t] : tensors) given[name] = &t;
  for (const auto& s : states_) s->load(given);
  require(given.empty(), "optimizer state holds {} tensors that this optimizer does not keep ({})",
          given.size(), given.empty() ? "" : given.begin()->first);
  steps_ = steps;
}

}  // namespace reverie
