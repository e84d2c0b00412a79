#pragma once
/// Does a run train what it should, and nothing else?

#include <string>
#include <vector>

#include "trainers/training/callback.h"

namespace reverie {

/// Names of the trainable parameters whose gradient is absent or zero in every element.
std::vector<std::string> without_gradient(const Module& model);
/// Hash of the names, shapes, dtypes and bytes of all frozen parameters (XXH3-128); "" without any.
std::string frozen_hash(const Module& model);

/// Writes RUN/audit.json: {"trainable_tensors", "frozen_tensors", "without_gradient": [NAME, ...],
/// "reached_in_second_step": [NAME, ...], "frozen_hash"}. What no gradient reached in the first step
/// is looked at again in the second, since a weight behind one that begins at zero (LoRA's) has to
/// wait for it; of what is missed then, too, it warns. At every checkpoint and so before a run
/// counts as finished, it throws InternalError when a frozen parameter has changed, also since an
/// earlier part of a resumed run.
class TrainingAudit final : public Callback {
 public:
  void on_start(const RunView&, int64_t first_step) override;
  void on_step(const RunView&, const StepInfo&) override;
  void on_checkpoint(const RunView&, const std::string& directory) override;

 private:
  std::string frozen_hash_;
  std::vector<std::string> missed_;  ///< by all gradients so far
};

}  // namespace reverie
