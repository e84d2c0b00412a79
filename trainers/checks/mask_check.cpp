#include "trainers/checks/mask_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/ops/elementwise.h"
#include "core/error.h"
#include "trainers/probes/separate_group.h"

namespace reverie {
namespace {

// The token that follows each; the last has none.
Tensor next_tokens(const Tensor& tokens) {
  Tensor next = tokens.clone();
  int32_t* id = next.mutable_data<int32_t>();
  const int64_t batch = tokens.size(0), time = tokens.size(1);
  for (int64_t b = 0; b < batch; ++b) {
    std::copy(id + b * time + 1, id + (b + 1) * time, id + b * time);
    id[(b + 1) * time - 1] = -1;
  }
  return next;
}

std::map<std::string, Tensor> take_gradients(AugmentedModel& model) {
  std::map<std::string, Tensor> taken;
  for (auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad()) continue;
    taken[name] = parameter.grad().defined() ? parameter.grad().clone() : Tensor();
    Variable(parameter).clear_grad();
  }
  return taken;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) most = std::isfinite(v) ? std::max(most, std::abs(v)) : INFINITY;
  return most;
}

}  // namespace

bool MaskCheck::ok(double tolerance) const {
  const auto near = [&](double difference, double size) {
    return difference <= tolerance * std::max(size, 1e-6);  // NaN is not
  };
  return without_gradient.empty() && !gradients.empty() &&
         near(std::abs(packed_loss - separate_loss), std::abs(separate_loss)) &&
         std::all_of(gradients.begin(), gradients.end(),
                     [&](const Gradient& g) { return near(g.difference, g.size); });
}

std::string MaskCheck::text() const {
  const auto worst = std::max_element(
      gradients.begin(), gradients.end(), [](const Gradient& a, const Gradient& b) {
        return a.difference / std::max(a.size, 1e-6) < b.difference / std::max(b.size, 1e-6);
      });
  std::string out = fmt::format(
      "{} groups, {} predictions: loss packed {:.12f}, by separate forwards {:.12f} (difference "
      "{:.3g})\n",
      groups, targets, packed_loss, separate_loss, std::abs(packed_loss - separate_loss));
  if (worst != gradients.end())
    out += fmt::format(
        "gradients of {} trainable tensors; furthest apart: {} by {:.3g}, its largest element "
        "{:.3g}\n",
        gradients.size(), worst->parameter, worst->difference, worst->size);
  for (const std::string& name : without_gradient)
    out += fmt::format("no gradient reaches {}, which is to be trained\n", name);
  out += ok() ? "packed groups equal separate forwards"
              : "packed groups DIFFER from separate forwards: a group sees a token that it must "
                "not see, or misses one that it should see";
  return out;
}

void draw_zero_parameters(Module& model, Generator& random) {
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad() || largest(parameter.tensor().to_vector()) != 0) continue;
    Tensor target = parameter.tensor();
    target.copy_from(random.normal(target.shape(), 0, 0.05, target.dtype()));
  }
}

MaskCheck check_mask(AugmentedModel& model, const Tensor& tokens, const Tensor& limits) {
  const int64_t ahead = model.options().ahead, groups = limits.size(1);
  const InsertionPoints points = insertion_points(tokens, next_tokens(tokens), limits, ahead);
  const bool was_training = model.training();
  model.train(false);  // dropout would draw other masks for other shapes
  take_gradients(model);

  MaskCheck check;
  check.groups = limits.numel();
  for (const double target : points.targets.to_vector()) check.targets += target >= 0;
  Variable packed = model.base().loss_of(model.ahead_hidden(tokens, points), points.targets, 1.0);
  if (model.source().own_share() > 0) packed = add(packed, model.own_loss(tokens, limits).sum);
  check.packed_loss = packed.tensor().item();
  backward(packed);
  const auto packed_gradients = take_gradients(model);

  for (int64_t b = 0; b < limits.size(0); ++b)
    for (int64_t g = 0; g < groups; ++g) {
      const Variable loss = separate_loss(model, tokens, points, b, g);
      check.separate_loss += loss.tensor().item();
      backward(loss);
    }
  for (const auto& [name, separate] : take_gradients(model)) {
    const Tensor& from_packed = packed_gradients.at(name);
    if (!separate.defined() || !from_packed.defined() || largest(separate.to_vector()) == 0 ||
        largest(from_packed.to_vector()) == 0) {
      check.without_gradient.push_back(name);
      continue;
    }
    std::vector<double> apart = from_packed.to_vector();
    const std::vector<double> wanted = separate.to_vector();
    for (size_t i = 0; i < apart.size(); ++i) apart[i] -= wanted[i];
    check.gradients.push_back({name, largest(apart), largest(wanted)});
  }
  model.train(was_training);
  return check;
}

}  // namespace reverie
