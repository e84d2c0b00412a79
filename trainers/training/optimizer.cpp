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

AdamWOptimizer::AdamWOptimizer(Module& module, const OptimizerOptions& options,
                               Communicator& communicator, bool shard)
    : options_(options),
      communicator_(communicator),
      sharded_(shard && communicator.size() > 1),
      buckets_(2) {
  buckets_[0].weight_decay = options.weight_decay;
  DType dtype = DType::f32;
  Device device;
  int64_t order = 0;
  for (auto& [name, v] : module.parameters()) {
    if (!v.requires_grad()) continue;
    dtype = v.dtype();
    device = v.device();
    buckets_[v.rank() >= 2 ? 0 : 1].members.push_back({name, v, 0, order++});
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
    const int64_t shares = sharded_ ? communicator_.size() : 1;
    for (int64_t r = 0; r <= shares; ++r) b.begin.push_back(size / align * r / shares * align);
    for (Tensor* t : {&b.parameters, &b.gradients}) *t = Tensor::zeros({size}, dtype, device);
    for (Tensor* t : {&b.m, &b.v})
      *t = Tensor::zeros(share_of(b, b.parameters).shape(), dtype, device);
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

Tensor AdamWOptimizer::share_of(const Bucket& b, const Tensor& flat) const {
  const size_t share = sharded_ ? size_t(communicator_.rank()) : 0;
  return flat.slice(0, b.begin[share], b.begin[share + 1]);
}

size_t AdamWOptimizer::moment_bytes() const {
  size_t bytes = 0;
  for (const Bucket& b : buckets_) bytes += b.m.bytes() + b.v.bytes();
  return bytes;
}

std::vector<FlatGradients> AdamWOptimizer::flat_gradients() const {
  std::vector<FlatGradients> all;
  for (const Bucket& b : buckets_) {
    if (b.members.empty()) continue;
    FlatGradients& flat = all.emplace_back();
    flat.gradients = b.gradients;
    for (const Member& m : b.members) flat.parts.push_back({m.variable, m.offset, m.order});
  }
  return all;
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
  for (Bucket& b : buckets_) {
    if (b.members.empty()) continue;
    Tensor parameters = share_of(b, b.parameters), gradients = share_of(b, b.gradients);
    if (parameters.numel() > 0)
      kernel::adamw(parameters.device(),
                    {parameters, gradients, b.m, b.v, rate, options_.beta1, options_.beta2,
                     options_.eps, b.weight_decay, steps_, scale});
    if (sharded_) communicator_.all_gather(b.parameters, b.begin);
  }
}

Tensor AdamWOptimizer::gathered(const Bucket& b, const Tensor& moment) const {
  if (!sharded_) return moment;
  Tensor whole;
  if (communicator_.first())
    whole = Tensor::empty(b.parameters.shape(), moment.dtype(), moment.device());
  communicator_.gather(moment, b.begin, whole, 0);
  return whole;
}

void AdamWOptimizer::name_moments(const Bucket& b, const std::string& prefix, const Tensor& moment,
                                  NamedTensors& out) const {
  for (const Member& m : b.members)
    out.emplace_back(prefix + m.name, Tensor::over(moment.storage(), m.variable.shape(),
                                                   m.variable.dtype(), m.offset));
}

NamedTensors AdamWOptimizer::state() const {
  NamedTensors out;
  for (const Bucket& b : buckets_) {
    const Tensor m = gathered(b, b.m), v = gathered(b, b.v);
    if (!communicator_.first()) continue;
    NamedTensors first, second;
    name_moments(b, "m.", m, first);
    name_moments(b, "v.", v, second);
    for (size_t i = 0; i < first.size(); ++i) {
      out.push_back(first[i]);
      out.push_back(second[i]);
    }
  }
  return out;
}

void AdamWOptimizer::load(const NamedTensors& tensors, int64_t steps) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [name, t] : tensors) given[name] = &t;
  size_t wanted = 0;
  for (Bucket& b : buckets_) {
    for (const auto& [prefix, moment] : {std::pair{"m.", &b.m}, std::pair{"v.", &b.v}}) {
      Tensor whole = sharded_
                         ? Tensor::zeros(b.parameters.shape(), moment->dtype(), moment->device())
                         : *moment;
      NamedTensors places;
      name_moments(b, prefix, whole, places);
      wanted += places.size();
      for (auto& [name, place] : places) {
        const auto it = given.find(name);
        require(it != given.end() && it->second->shape() == place.shape(),
                "optimizer state: {} is missing or not {}", name, place.str());
        place.copy_from(*it->second);
      }
      if (sharded_) moment->copy_from(share_of(b, whole));
    }
  }
  require(given.size() == wanted, "optimizer state holds {} tensors, this model wants {}",
          given.size(), wanted);
  steps_ = steps;
}

}  // namespace reverie
