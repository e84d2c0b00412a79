#pragma once
/// The gradient of one batch: forward and backward over its parts, summed over ranks.

#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/distributed/gradient_reducer.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/batches_ahead.h"
#include "trainers/training/carried_memory.h"

namespace reverie {

class BatchGradient {
 public:
  /// Keeps references to all of them.
  BatchGradient(LanguageModel&, const Sampler&, const BatchSplit&, GradientReducer&, Communicator&,
                Device);

  /// The loss of a whole batch: the sum over its parts, nats per target token of the batch.
  struct Result {
    double loss = 0;
    int64_t targets = 0;
    int signal = 0;  ///< that asks a rank to stop; all ranks get the same
  };
  /// Adds the gradient of batch `index` to the parameters', the same on every rank. A collective.
  /// While the device computes, reads ahead: `last` says that no batch comes after this one.
  Result compute(int64_t index, bool last);

  /// Memory that goes on from batch to batch, for models that carry it.
  CarriedMemory& carried() { return carried_; }
  const SequenceState* carried_of_first_part() {
    return model_.carries_memory() ? &carried_.part(0) : nullptr;
  }

 private:
  /// Of a part, window after window, with its state carried (null: none).
  Variable loss_of(const Batch&, double weight_per_target, SequenceState*);
  /// While the device computes this part's loss.
  void prepare_after(size_t part, int64_t index, bool last);

  LanguageModel& model_;
  const Sampler& sampler_;
  const BatchSplit& split_;
  GradientReducer& reducer_;
  Communicator& communicator_;
  BatchesAhead batches_;
  CarriedMemory carried_;
};

}  // namespace reverie
