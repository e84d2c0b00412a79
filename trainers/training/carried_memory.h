#pragma once
/// Memory that goes on from batch to batch, for the parts of a batch that a rank has.

#include <map>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "layers/sequence_state.h"
#include "trainers/distributed/communicator.h"
#include "trainers/training/batch_split.h"

namespace reverie {

class CarriedMemory {
 public:
  void clear(const BatchSplit& split) { parts_.assign(split.parts().size(), {}); }
  SequenceState& part(size_t i) { return parts_.at(i); }

  /// For a checkpoint: tensors [batch, ..] of the whole batch by name, the same however it is split.
  /// A collective; every rank gets all.
  NamedTensors whole(const BatchSplit& split, Communicator& communicator) const;
  /// Counters are those of the text's position, and the same for all rows.
  std::map<std::string, int64_t> counters() const;
  /// Takes this rank's rows of what whole() gave, to `device`.
  void load(const BatchSplit& split, Device device, const NamedTensors& tensors,
            const std::map<std::string, int64_t>& counters);

 private:
  std::vector<SequenceState> parts_;
};

/// Checkpoints of earlier versions hold memory among the optimizer's tensors, as "memory.PART.NAME"
/// with the rows of each part. Takes it out of `optimizer`, parts one below the other.
NamedTensors take_earlier_memory(NamedTensors& optimizer);

}  // namespace reverie
