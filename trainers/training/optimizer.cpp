#include "trainers/training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "core/error.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"

namespace reverie {

void OptimizerOptions::fields(Fields& f) {
  f.number("learning_rate", learning_rate, {0, 10}, "highest learning rate, reached after warmup");
  f.number("minimum_learning_rate", minimum_learning_rate, {0, 10},
           "learning rate at the end of the cosine");
  f.integer("warmup_steps", warmup_steps, kNonNegative, "steps of linear warmup");
  f.integer_or_auto("decay_steps", decay_steps, kPositive,
                    "step at which the cosine ends; auto: the run's last");
  f.number("beta1", beta1, {0, 0.9999999}, "decay of the first moment");
  f.number("beta2", beta2, {0, 0.9999999}, "decay of the second moment");
  f.number("eps", eps, {0, 1}, "added to the root of the second moment");
  f.number("weight_decay", weight_decay, {0, 10},
           "decoupled decay of tensors with two or more dimensions");
  f.number("gradient_clip", gradient_clip, {0, 1e9},
           "largest global gradient norm; 0: no clipping");
}

double learning_rate_at(const OptimizerOptions& o, int64_t step, int64_t total_steps) {
  if (step < o.warmup_steps) return o.learning_rate * double(step + 1) / double(o.warmup_steps + 1);
  const int64_t end = o.decay_steps.value_or(total_steps);
  if (step >= end) return o.minimum_learning_rate;
  const double progress =
      double(step - o.warmup_steps) / double(std::max<int64_t>(1, end - o.warmup_steps));
  return o.minimum_learning_rate + 0.5 * (1 + std::cos(std::numbers::pi * progress)) *
                                       (o.learning_rate - o.minimum_learning_rate);
}

AdamWOptimizer::AdamWOptimizer(Module& module, const OptimizerOptions& options)
    : options_(options), buckets_(2) {
  buckets_[0].weight_decay = options.weight_decay;
  DType dtype = DType::f32;
  Device device;
  for (auto& [name, v] : module.parameters()) {
    if (!v.requires_grad()) continue;
    dtype = v.dtype();
    device = v.device();
    buckets_[v.rank() >= 2 ? 0 : 1].members.push_back({name, v, 0});
  }
  const int64_t align = 64 / int64_t(size_of(dtype));
  for (Bucket& b : buckets_) {
    int64_t size = 0;
    for (Member& m : b.members) {
      require(m.variable.dtype() == dtype, "the optimizer wants parameters of one dtype; {} is {}",
              m.name, m.variable.tensor().str());
      m.offset = size;
      size += (m.variable.tensor().numel() + align - 1) / align * align;
    }
    for (Tensor* t : {&b.parameters, &b.gradients, &b.m, &b.v})
      *t = Tensor::zeros({size}, dtype, device);
    for (Member& m : b.members) {
      const Shape shape = m.variable.shape();
      auto place = [&](const Tensor& bucket) {
        return Tensor::over(bucket.storage(), shape, dtype, m.offset);
      };
      Tensor parameter = place(b.parameters);
      parameter.copy_from(m.variable.tensor());
      m.variable.set_tensor(parameter);
      m.variable.set_grad_buffer(place(b.gradients));
    }
  }
}

void AdamWOptimizer::clear_gradients() {
  for (Bucket& b : buckets_)
    for (Member& m : b.members) m.variable.clear_grad();
}

double AdamWOptimizer::gradient_norm() {
  Tensor total = Tensor::zeros({1}, DType::f64, buckets_[0].parameters.device());
  for (Bucket& b : buckets_) {
    // A parameter no gradient reached keeps stale bytes in the bucket.
    for (Member& m : b.members)
      if (!m.variable.grad().defined())
        Tensor::over(b.gradients.storage(), m.variable.shape(), m.variable.dtype(), m.offset)
            .fill(0);
    if (!b.members.empty()) kernel::sum_squares(b.gradients.device(), {b.gradients, total});
  }
  return std::sqrt(total.item());
}

bool AdamWOptimizer::parameters_finite() const {
  Tensor total = Tensor::zeros({1}, DType::f64, buckets_[0].parameters.device());
  for (const Bucket& b : buckets_)
    if (!b.members.empty()) kernel::sum_squares(b.parameters.device(), {b.parameters, total});
  return std::isfinite(total.item());
}

void AdamWOptimizer::step(double rate, double gradient_norm) {
  ++steps_;
  const double clip = options_.gradient_clip;
  // The 1e-6 is PyTorch's clip_grad_norm_.
  const double scale = clip > 0 ? std::min(1.0, clip / (gradient_norm + 1e-6)) : 1.0;
  for (Bucket& b : buckets_)
    if (!b.members.empty())
      kernel::adamw(b.parameters.device(),
                    {b.parameters, b.gradients, b.m, b.v, rate, options_.beta1, options_.beta2,
                     options_.eps, b.weight_decay, steps_, scale});
}

NamedTensors AdamWOptimizer::state() const {
  NamedTensors out;
  for (const Bucket& b : buckets_)
    for (const Member& m : b.members)
      for (const auto& [prefix, bucket] : {std::pair{"m.", &b.m}, std::pair{"v.", &b.v}})
        out.emplace_back(prefix + m.name, Tensor::over(bucket->storage(), m.variable.shape(),
                                                       m.variable.dtype(), m.offset));
  return out;
}

void AdamWOptimizer::load(const NamedTensors& tensors, int64_t steps) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [name, t] : tensors) given[name] = &t;
  const NamedTensors mine = state();
  for (const auto& [name, target] : mine) {
    const auto it = given.find(name);
    require(it != given.end() && it->second->shape() == target.shape(),
            "optimizer state: {} is missing or not {}", name, target.str());
    Tensor place = target;
    place.copy_from(*it->second);
  }
  require(given.size() == mine.size(), "optimizer state holds {} tensors, this model wants {}",
          given.size(), mine.size());
  steps_ = steps;
}

}  // namespace reverie
