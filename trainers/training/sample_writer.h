#pragma once
/// Text samples of a run.

#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"
#include "trainers/runs/experiment.h"

namespace reverie {

class SampleWriter {
 public:
  /// Keeps references to all of them. There are no samples without a tokenizer, of examples, or where
  /// sample.tokens is 0; nor, with a warning, where the prompt cannot be used.
  SampleWriter(const ExperimentOptions&, LanguageModel&, const Dataset&, Communicator&);

  /// A sample of the model as it is now; "" where there are none. One that fails is a warning: no
  /// reason to end the run. Interrupted when a signal is pending and there is one rank.
  std::string write(int64_t step) const;

 private:
  const ExperimentOptions& options_;
  LanguageModel& model_;
  const Dataset& data_;
  Communicator& communicator_;
  std::vector<int32_t> prompt_;  ///< empty: there are no samples
};

}  // namespace reverie
