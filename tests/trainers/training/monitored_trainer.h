#pragma once
// A trainer with the callbacks of an ordinary run, without progress lines.

#include "trainers/monitoring/run_callbacks.h"
#include "trainers/training/trainer.h"

namespace reverie::testing {

struct CallbacksOfTrainer {
  StandardCallbacks standard_callbacks{{.progress = false}};
};

// The callbacks are a base class, so that they outlive the trainer.
class MonitoredTrainer : private CallbacksOfTrainer, public Trainer {
 public:
  MonitoredTrainer(const ExperimentOptions& options, const RunControl& control)
      : Trainer(options, standard_callbacks.added_to(control)) {}
};

}  // namespace reverie::testing
