#include "trainers/evaluation/latent_measurement.h"

#include <algorithm>
#include <chrono>

#include "autograd/ops/shape.h"
#include "core/cuda.h"
#include "core/error.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

double median_ms(Device device, const std::function<void()>& work) {
  constexpr int kRepeats = 9;
  std::vector<double> ms;
  const auto finish = [&] {
    work();
    if (device.kind == DeviceKind::cuda) cuda::synchronize();  // it is only asked for until then
  };
  finish();  // warms caches up
  for (int i = 0; i < kRepeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    finish();
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
                     .count());
  }
  std::nth_element(ms.begin(), ms.begin() + kRepeats / 2, ms.end());
  return ms[kRepeats / 2];
}

LatentCosts costs_of(LanguageModel& model, const Tensor& text, int64_t length) {
  const EvaluationMode mode(model);
  LatentCosts costs;
  const Device device = model.head().device();
  costs.device = name_of(device.kind);
  for (const auto& [name, parameter] : model.parameters())
    if (parameter.requires_grad()) costs.trainable_parameters += parameter.tensor().numel();
  costs.flops_per_token = model.forward_flops_per_token(length);
  const int64_t time = text.size(1);
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model)) {
    costs.flops_per_insertion = augmented->insertion_flops(time);
    const Tensor limits = Tensor::from<int32_t>({1, 1}, {int32_t(time)});
    // One token ahead: the last latent predicts it.
    const InsertionPoints points{limits, Tensor::empty({1, 0}, DType::i32),
                                 Tensor::from<int32_t>({1, 1}, {0})};
    costs.latency_ms =
        median_ms(device, [&] { model.logits_of(augmented->ahead_hidden(text, points)).tensor(); });
  } else {
    costs.latency_ms = median_ms(
        device, [&] { model.logits_of(slice(model.hidden(text), 1, time - 1, time)).tensor(); });
  }
  return costs;
}

Json to_json(const LatentCosts& c) {
  Json out = {{"trainable_parameters", c.trainable_parameters},
              {"flops_per_token", c.flops_per_token},
              {"flops_per_insertion", c.flops_per_insertion},
              {"latency_ms", c.latency_ms}};
  if (!c.device.empty()) out["device"] = c.device;
  return out;
}
LatentCosts costs_from(const Json& json) {
  return {json.at("trainable_parameters"), json.at("flops_per_token"),
          json.at("flops_per_insertion"), json.at("latency_ms"), json.value("device", "")};
}

}  // namespace

Json LatentMeasurement::json() const {
  return {{"own", own.json()},
          {"shuffled", shuffled ? shuffled->json() : Json()},
          {"costs", to_json(costs)},
          {"base_costs", to_json(base_costs)}};
}

LatentMeasurement LatentMeasurement::from_json(const Json& json) {
  try {
    LatentMeasurement m;
    m.own = PositionLosses::from_json(json.at("own"));
    if (!json.at("shuffled").is_null()) m.shuffled = PositionLosses::from_json(json.at("shuffled"));
    m.costs = costs_from(json.at("costs"));
    m.base_costs = costs_from(json.at("base_costs"));
    return m;
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("this is no measurement of latents: {}", e.what()));
  }
}

LatentMeasurement measure_latents(LanguageModel& model, LanguageModel& base,
                                  const EvaluationWindows& windows,
                                  const LatentEffectOptions& options, bool shuffled,
                                  ForwardAudit* audit) {
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model);
      augmented && !augmented->options().train_base) {
    const std::string now = augmented->base().weights_hash(), before = base.weights_hash();
    if (now != before)
      throw DataError(
          fmt::format("the frozen base has changed: its weights hash to {}, those of {} to {}", now,
                      augmented->options().base, before));
  }
  require(
      model.head().device() == base.head().device(),
      "the model is on device {} and its base on {}: their losses and milliseconds cannot stand "
      "side by side; open the base on the model's device",
      name_of(model.head().device().kind), name_of(base.head().device().kind));
  LatentMeasurement m;
  LatentEffectOptions o = options;
  o.shuffled = false;
  m.own = measure_position_losses(model, base, windows, o, audit);
  o.shuffled = true;
  if (shuffled) m.shuffled = measure_position_losses(model, base, windows, o, audit);
  const Batch batch = windows.batch(0);
  const int64_t length = batch.tokens.size(1);
  const Tensor text =
      batch.tokens.slice(0, 0, 1).slice(1, 0, std::max<int64_t>(1, length / 2)).contiguous();
  m.costs = costs_of(model, text, length);
  m.base_costs = costs_of(base, text, length);
  return m;
}

}  // namespace reverie
