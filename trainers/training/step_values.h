#pragma once
/// Values that ranks exchange once a step, besides gradients.

#include <vector>

#include "trainers/distributed/communicator.h"
#include "trainers/training/batch_split.h"

namespace reverie {

struct StepValues {
  std::vector<double> losses;  ///< of a rank's parts; after the exchange one per term of the sum
  int signal = 0;              ///< that asks to stop; later that of the first rank that has one
  std::vector<bool> reached;   ///< parameters that a gradient reached; later on any rank
};

/// A collective. With one rank and sums that are not exact, `mine` comes back.
StepValues exchange_step_values(Communicator& communicator, const BatchSplit& split,
                                const StepValues& mine);

}  // namespace reverie
