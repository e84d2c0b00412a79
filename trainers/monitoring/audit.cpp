#include "trainers/monitoring/audit.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/weights_hash.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

std::string file_of(const RunView& t) {
  return t.run_directory() + "/audit.json";
}

template <class T>
bool any_nonzero(const Tensor& t) {
  const T* x = t.data<T>();
  return std::any_of(x, x + t.numel(), [](T value) { return value != T(0); });
}

bool reached(const Tensor& gradient) {
  if (!gradient.defined()) return false;
  const Tensor host = gradient.to(Device{}).contiguous();
  if (host.dtype() == DType::f64) return any_nonzero<double>(host);
  return any_nonzero<float>(host.to(DType::f32));
}

}  // namespace

std::vector<std::string> without_gradient(const Module& model) {
  std::vector<std::string> names;
  for (const auto& [name, parameter] : model.parameters())
    if (parameter.requires_grad() && !reached(parameter.grad())) names.push_back(name);
  return names;
}

std::string frozen_hash(const Module& model) {
  NamedTensors frozen;
  for (const auto& [name, parameter] : model.parameters())
    if (!parameter.requires_grad()) frozen.emplace_back(name, parameter.tensor());
  return frozen.empty() ? "" : hash_of_weights(frozen);
}

void TrainingAudit::on_start(const RunView& t, int64_t first_step) {
  frozen_hash_ = frozen_hash(t.model());
  missed_.clear();
  if (first_step == 0 || !std::filesystem::exists(file_of(t))) return;
  const Json before = read_stored_json(file_of(t)).json();
  if (first_step == 1) missed_ = before.value("without_gradient", missed_);
  if (const Json hash = before.value("frozen_hash", Json()); hash != frozen_hash_)
    throw InternalError(fmt::format(
        "{}: the frozen parameters have changed: their hash is {} now and was {} when this run "
        "began",
        t.run_directory(), frozen_hash_, json_text(hash)));
}

void TrainingAudit::on_step(const RunView& t, const StepInfo& info) {
  if (info.step > 2 || (info.step == 2 && missed_.empty())) return;
  std::vector<std::string> missed = without_gradient(t.model()), waited;
  if (info.step == 2) {
    const auto still = [&](const std::string& name) {
      return std::find(missed.begin(), missed.end(), name) != missed.end();
    };
    std::copy_if(missed_.begin(), missed_.end(), std::back_inserter(waited), std::not_fn(still));
    std::erase_if(missed_, std::not_fn(still));
    missed = missed_;
  }
  missed_ = missed;
  if (info.step == 2 || t.options().train.steps == 1)
    for (const std::string& name : missed)
      log_warning(
          "no gradient reached {} in the first steps, although it is to be trained: the "
          "loss does not depend on it",
          name);
  int64_t trainable = 0, frozen = 0;
  for (const auto& [name, parameter] : t.model().parameters())
    (parameter.requires_grad() ? trainable : frozen) += 1;
  write_file_atomically(file_of(t), json_text(Json{{"trainable_tensors", trainable},
                                                   {"frozen_tensors", frozen},
                                                   {"without_gradient", missed},
                                                   {"reached_in_second_step", waited},
                                                   {"frozen_hash", frozen_hash_}},
                                              2) +
                                        "\n");
}

void TrainingAudit::on_checkpoint(const RunView& t, const std::string& directory) {
  const std::string now = frozen_hash(t.model());
  if (now != frozen_hash_)
    throw InternalError(fmt::format(
        "{}: the frozen parameters have changed: their hash is {} and was {} when training began",
        directory, now, frozen_hash_));
}

}  // namespace reverie
