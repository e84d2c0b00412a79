#pragma once
/// The sampler of a run's training batches.

#include <memory>

#include "datasets/dataset.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"

namespace reverie {

/// Examples or whole documents of a task where the data has them; rows of a mix or of shards by their
/// shares; for a model that carries memory,
/// documents or one text in consecutive windows; else random windows of the model's block_size;
/// `windows` of them one after another to a row. UserError where the data do not fit the model.
std::unique_ptr<Sampler> make_sampler(const Dataset&, const LanguageModel&, int64_t batch_size,
                                      uint64_t seed, int64_t windows = 1);

}  // namespace reverie
