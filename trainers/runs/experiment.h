#pragma once
/// The config of a training run: every field with its default.

#include <string>
#include <vector>

#include "autograd/precision.h"
#include "core/config.h"
#include "datasets/dataset.h"
#include "trainers/distributed/options.h"
#include "trainers/optimizers/optimizer.h"

namespace reverie {

struct TrainingOptions final : Fieldset {
  int64_t steps = 2000, batch_size = 12, windows = 1, micro_batches = 1;
  std::string exact_sums = "auto";
  void fields(Fields&) override;
};
struct EvaluationOptions final : Fieldset {
  int64_t interval = 250, windows = 64, prefix_only_windows = 8;
  int64_t final_windows = 0, final_prefix_only_windows = 64, batch_size = 32;
  void fields(Fields&) override;
};
struct SampleOptions final : Fieldset {
  int64_t interval = 1000, tokens = 200, top_k = 0;
  double temperature = 0.8;
  std::string prompt = "\n";
  void fields(Fields&) override;
};
struct CheckpointOptions final : Fieldset {
  int64_t interval = 500, keep = 2;
  bool keep_best = false, self_contained = false;
  void fields(Fields&) override;
};

struct ExperimentOptions final : Fieldset {
  int64_t seed = 1337, shrunk_by = 1;
  std::string device = "cpu", precision = "f32";
  bool allow_future_leak = false;
  std::vector<std::string> plugins;
  DataOptions data;
  Component model;
  TrainingOptions train;
  Component optimizer = {"adamw", nullptr, "$"};
  EvaluationOptions evaluation;
  SampleOptions sample;
  CheckpointOptions checkpoint;
  DistributedOptions distributed;
  void fields(Fields&) override;

  DType parameter_dtype() const { return precision == "f64" ? DType::f64 : DType::f32; }
  /// Whether the gradient is summed sequence by sequence in one order, so that no bit depends on
  /// micro_batches or ranks.
  bool exact_sums() const {
    return train.exact_sums == "on" || (train.exact_sums == "auto" && precision == "f64");
  }
  Device tensor_device() const {
    return {device == "cuda" ? DeviceKind::cuda : DeviceKind::cpu, 0};
  }
  /// Precision of products in training steps; evaluation multiplies in full.
  MatmulPrecision matmul_precision() const {
    return precision == "bf16" ? MatmulPrecision::bf16 : MatmulPrecision::full;
  }
  /// Whether trained matrices have a copy in bf16 (core/rounded_copy.h) on each of so many ranks.
  /// Without rematerialisation it takes the place of the copies that backward would keep; with it,
  /// the memory is wanted, unless the copy takes the place of most f32 values (ShardedMasters).
  bool keeps_rounded_copies(int ranks) const;
};

/// While one is alive in this process, a config may name a device that this machine lacks: for
/// plans, which put nothing on it.
class AbsentDevicesAllowed {
 public:
  AbsentDevicesAllowed();
  ~AbsentDevicesAllowed();
  AbsentDevicesAllowed(const AbsentDevicesAllowed&) = delete;
  AbsentDevicesAllowed& operator=(const AbsentDevicesAllowed&) = delete;
};
/// ConfigError where `device` is neither "cpu" nor "cuda", or not usable here.
void require_device(const std::string& device);

/// Loads the plugins that `config` names (relative to `directory`), then reads it strictly and makes
/// its paths absolute (resolve_paths()). ConfigError for a device that is not usable here
/// (AbsentDevicesAllowed).
ExperimentOptions read_experiment(const Config& config, const std::string& directory);
/// The same with the paths of data and model as they are written.
ExperimentOptions read_experiment_as_written(const Config& config, const std::string& directory);
/// ConfigError that names every pair of options which contradict each other; a warning for those
/// which are odd (a warmup beyond the end). For runs that begin: an older one may hold what was
/// allowed then.
void require_consistent(const ExperimentOptions&);

}  // namespace reverie
