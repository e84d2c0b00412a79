#pragma once
/// The cost of a run: what its steps take of memory, and how many operations they are.

#include <string>

#include "trainers/runs/experiment.h"
#include "trainers/training/gpu_rates.h"

namespace reverie {

struct Plan {
  std::string device = "cpu";  ///< that bytes are counted for
  int ranks = 1;
  int64_t parameters = 0, trained_parameters = 0, tokens_per_step = 0, steps = 0;
  double step_flops = 0;  ///< of the kernels of one step, on all ranks, recomputation included

  /// Bytes of one rank: of those with the most sequences, the one that keeps the most. First the
  /// parameters that it keeps (ShardedMasters: not all), and those of them that are not trained
  /// (ranks on one machine share mapped ones).
  double weight_bytes = 0, frozen_bytes = 0;
  double gradient_bytes = 0;         ///< of all that are trained
  double rounded_bytes = 0;          ///< copies of trained matrices in bf16 (core/rounded_copy.h)
  double optimizer_bytes = 0;        ///< this rank's share of what the optimizer keeps
  double carried_bytes = 0;          ///< memory that goes on to the next step's batch
  double kept_bytes = 0;             ///< between steps: all of these, padded
  double activation_bytes = 0;       ///< what one step takes besides, at its peak
  double peak_bytes = 0;             ///< both
  double evaluation_peak_bytes = 0;  ///< while windows are evaluated
  double start_peak_bytes = 0;       ///< while parameters move into their buckets

  Json json() const;
  /// The largest of the three peaks: what a device must have.
  double most_bytes() const;
  /// Seconds that all steps take at this share of the data sheet's rate.
  double seconds_on(const GpuRates&, double utilisation, bool bf16) const;
};

/// Runs one step without values (core/dry_run.h) on the CPU, as one of so many ranks, whatever
/// device the run is for: tensors have the same shapes there, and frozen weights are kept as on that
/// device (core/compact_weights.h), which need not be here (AbsentDevicesAllowed). It takes neither
/// the time nor the memory of such a step. A published base needs no weights: the config.json of a
/// Hugging Face directory is enough. Tests hold this beside what training takes. Not counted: the
/// program and libraries, scratch inside kernels, buffers of the communicator, the gate before the
/// first step, the moments that the first of several ranks gathers for a checkpoint, prefix-only
/// scores.
/// A vocabulary of 0 (the data's) is taken as 65 when the data is not at hand. ConfigError for more
/// ranks than sequences.
Plan plan_run(const ExperimentOptions&, int ranks = 1);

}  // namespace reverie
