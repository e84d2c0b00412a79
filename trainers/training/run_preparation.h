#pragma once
/// What is settled before a run's parts are built: its data, its vocabulary, and that all ranks are
/// about to train the same.

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"
#include "trainers/runs/experiment.h"

namespace reverie {

/// Opens the data. Ranks may share a disk, so that only the first prepares what is missing.
Dataset open_data(const DataOptions&, Communicator&);

/// A vocabulary of 0 becomes the data's. UserError, with all that is wrong, where the model's
/// vocabulary does not hold the data's tokens, a split of a text holds no window of the model's, or
/// as require_targets_ahead() has it.
void settle_vocabulary(ExperimentOptions&, const Dataset&);

/// UserError where latents are to stand in front of the targets ("insert": "targets"), and an example
/// has more targets than the model predicts behind its latents ("ahead").
void require_targets_ahead(const Component& model, const Dataset&);

/// UserError where the model thinks at another token than the one that the data's examples have.
void require_same_thoughts(const LanguageModel&, const Dataset&);

/// A model beside a frozen run keeps the hash of that run's weights, so that another is refused later.
void settle_base(ExperimentOptions&);

/// A collective. ConfigError where ranks differ in build, config, data, kernels or `command`;
/// UserError where they exchange no tensors of the config's device.
void require_same_run_on_all_ranks(Communicator&, const ExperimentOptions&, const Dataset&,
                                   const Json& command);

void warn_of_emulated_precision(const ExperimentOptions&);
/// Once in a process, for published models: their texts may have begun with a token that windows
/// lack.
void warn_of_windows_without_begin(const ExperimentOptions&, const Dataset&);

}  // namespace reverie
