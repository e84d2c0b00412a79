#pragma once
/// How many answers of a generated task a model has right, by their distance.

#include <cstdint>
#include <vector>

#include "datasets/task_data.h"
#include "layers/language_model.h"

namespace reverie {

class ForwardAudit;

/// What a window knows of those before it.
enum class CarriedState { as_model, reset, swapped };

struct DistanceAccuracy {
  int64_t distance = 0, right = 0, of = 0;  ///< distance in windows
  double chance = 0;                        ///< GeneratedTask::chance()
  double share() const { return of == 0 ? 0 : double(right) / double(of); }
  Json json() const;
};

/// An answer is right where its logit is the largest of its row, given all true tokens before it.
/// Documents are read in windows of the model's block_size; a model that carries memory carries it
/// through a document, unless `state` says that every window is a text of its own (reset), or is read
/// with what the document beside it carried there (swapped; a document alone in its batch is left
/// out). At most `documents` (0: all), evenly spaced, `batch_size` at a time; `audit` (may be null)
/// audits some of the forwards, where the memory is the model's own. One entry for each
/// distance of the task, rising. UserError where the block_size does not fit the task, and for reset
/// or swapped memory of a model that carries none.
std::vector<DistanceAccuracy> task_accuracy(LanguageModel& model, const TokenFile& tokens,
                                            const TokenFile& answers, const TaskLayout& task,
                                            int64_t documents, int64_t batch_size,
                                            CarriedState state = CarriedState::as_model,
                                            ForwardAudit* audit = nullptr);

}  // namespace reverie
