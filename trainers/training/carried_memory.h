#pragma once
// Memory that goes on from batch to batch, for the parts of a batch that a rank has.

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

  // For a checkpoint: "memory.0.NAME" [batch, ..] of the whole batch, the same however it is split.
  // A collective; every rank gets all.
  NamedTensors whole(const BatchSplit& split, Communicator& communicator) const;
  // Counters are those of the text's position, and the same for all rows.
  std::map<std::string, int64_t> counters() const;
  // Takes this rank's rows of what "memory.0.NAME", "memory.1.NAME", .. hold one after another, to
  // the model's device.
  void load(const BatchSplit& split, const NamedTensors& tensors,
            const std::map<std::string, int64_t>& counters, Device device);

 private:
  std::vector<SequenceState> parts_;
};

}  // namespace reverie
